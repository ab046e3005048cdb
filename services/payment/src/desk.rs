//! The way to the provider, and what payment writes down of its answers.
//!
//! The provider's effect is outside of any transaction here. So each request goes under the effect's id as its idempotency
//! key, and each note is an upsert: a crash anywhere between leads to the same request and the same note again.

use jiff::Timestamp;
use sagamill::eventstore::EventStore;
use shop_contracts::{AuthorizationState, Declined, HeldAuthorization, Money, OrderId};
use shop_frame::{Db, Script, script, values};
use uuid::Uuid;

use crate::provider::{Provider, ProviderError};

pub(crate) const TABLES: Script = script!("001-payment.sql");

/// What can go wrong at the desk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeskError {
    #[error("the payment provider failed")]
    Provider(#[from] ProviderError),
    #[error("the payment database failed")]
    Database(#[from] sqlx::Error),
    #[error("the payment log failed")]
    Log(#[from] sagamill::eventstore::Error),
}

impl DeskError {
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Provider(error) => error.is_retryable(),
            Self::Database(_) | Self::Log(_) => true,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Desk<D: Db> {
    pub(crate) store: EventStore<D>,
    pub(crate) provider: Provider<D>,
}

impl<D: Db> Clone for Desk<D> {
    fn clone(&self) -> Self {
        let (store, provider) = (self.store.clone(), self.provider.clone());
        Self { store, provider }
    }
}

impl<D: Db> Desk<D> {
    pub(crate) async fn authorize(
        &self,
        effect: Uuid,
        order: &OrderId,
        customer: &str,
        amount: Money,
    ) -> Result<Result<String, Declined>, DeskError> {
        fail::fail_point!("provider.call.before");
        let answer = self.provider.authorize(effect, order, customer, amount).await?;
        fail::fail_point!("provider.call.after");
        if let Ok(authorization) = &answer {
            self.note(authorization, order, amount, AuthorizationState::Authorized)
                .await?;
        }
        Ok(answer)
    }

    pub(crate) async fn capture(
        &self,
        effect: Uuid,
        order: &OrderId,
        authorization: &str,
        amount: Money,
    ) -> Result<Result<Money, String>, DeskError> {
        fail::fail_point!("provider.call.before");
        let answer = self.provider.capture(effect, authorization, amount).await?;
        fail::fail_point!("provider.call.after");
        if answer.is_ok() {
            self.note(authorization, order, amount, AuthorizationState::Captured)
                .await?;
        }
        Ok(answer)
    }

    pub(crate) async fn void(
        &self,
        effect: Uuid,
        order: &OrderId,
        authorization: &str,
        amount: Money,
    ) -> Result<(), DeskError> {
        fail::fail_point!("provider.call.before");
        self.provider.void(effect, authorization).await?;
        fail::fail_point!("provider.call.after");
        self.note(authorization, order, amount, AuthorizationState::Voided)
            .await
    }

    /// A state never goes back: a late note of an authorization leaves its capture or void alone.
    async fn note(
        &self,
        authorization: &str,
        order: &OrderId,
        amount: Money,
        state: AuthorizationState,
    ) -> Result<(), DeskError> {
        // The log writes to the same file: its transaction has a place in the queue of this file's writers.
        let mut tx = self.store.begin().await?;
        let note =
            "insert into payment (authorization_id, order_id, amount, state, updated_at) values ($1, $2, $3, $4, $5)
             on conflict (authorization_id) do update set state = excluded.state, updated_at = excluded.updated_at
             where payment.state = 'authorized'";
        let values = values![
            authorization,
            order.as_str(),
            amount.as_minor(),
            state.as_str(),
            Timestamp::now().to_string()
        ];
        D::sql(&mut tx).execute(note, &values).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn payments(&self) -> Result<Vec<HeldAuthorization>, sqlx::Error> {
        let mut connection = self.store.pool().acquire().await?;
        let all = "select authorization_id, order_id, amount, state from payment order by 1";
        let rows = D::sql(&mut connection).rows(all, &[]).await?;
        rows.into_iter().map(crate::provider::held).collect()
    }
}

#[cfg(test)]
mod tests {
    use shop_frame::Location;
    use sqlx::Sqlite;

    use super::*;

    const TEN: Money = Money::minor(1_000);

    async fn desk() -> (Desk<Sqlite>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| Location::File(directory.path().join(name));
        let pool = shop_frame::open(&file("payment.db"), &TABLES).await.unwrap();
        let store = EventStore::open(pool).await.unwrap();
        let provider = Provider::open(&file("provider.db")).await.unwrap();
        (Desk { store, provider }, directory)
    }

    #[tokio::test]
    async fn answer_lost_after_the_provider_acted_is_asked_for_again_without_effect() {
        let (desk, _directory) = desk().await;
        let (effect, order) = (Uuid::now_v7(), OrderId::numbered(1));
        // The process dies here, between the provider's commit and the note.
        desk.provider
            .authorize(effect, &order, "ada", TEN)
            .await
            .unwrap()
            .unwrap();
        let authorization = desk.authorize(effect, &order, "ada", TEN).await.unwrap().unwrap();
        let held = HeldAuthorization {
            authorization,
            order,
            amount: TEN,
            state: AuthorizationState::Authorized,
        };
        assert_eq!(desk.payments().await.unwrap(), std::slice::from_ref(&held));
        assert_eq!(desk.provider.book().await.unwrap().authorizations, [held]);
    }

    #[tokio::test]
    async fn void_is_noted_also_where_the_authorization_never_was() {
        let (desk, _directory) = desk().await;
        let (effect, order) = (Uuid::now_v7(), OrderId::numbered(1));
        let authorization = desk
            .provider
            .authorize(effect, &order, "ada", TEN)
            .await
            .unwrap()
            .unwrap();
        desk.void(effect, &order, &authorization, TEN).await.unwrap();
        // A copy of the authorization that comes late gets its first answer and changes nothing.
        desk.authorize(effect, &order, "ada", TEN).await.unwrap().unwrap();
        assert_eq!(desk.payments().await.unwrap()[0].state, AuthorizationState::Voided);
    }

    #[tokio::test]
    async fn declined_authorization_leaves_no_note() {
        let (desk, _directory) = desk().await;
        let much = Money::minor(640_000);
        let answer = desk
            .authorize(Uuid::now_v7(), &OrderId::numbered(1), "ada", much)
            .await
            .unwrap();
        assert!(answer.is_err());
        assert!(desk.payments().await.unwrap().is_empty());
    }
}
