//! A fake payment provider: another company's system, with its own database and its own ledger. It knows nothing of sagas;
//! what it offers is what such providers do, a key that makes a request happen once.

use std::path::Path;

use sagamill_service_kit::open_sqlite;
use serde::{Serialize, de::DeserializeOwned};
use shop_contracts::{AuthorizationState, Declined, HeldAuthorization, Money, OrderId, ProviderBook};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use uuid::Uuid;

/// More than this is declined.
pub const LIMIT: Money = Money::minor(500_000);

/// What the provider answers where it does not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The key was used before, for another request: 409 over HTTP.
    #[error("the idempotency key {key} was used before, for another request to {operation}")]
    KeyReused {
        /// What was asked for.
        operation: &'static str,
        /// The key.
        key: Uuid,
    },
    /// It never granted this.
    #[error("there is no authorization {authorization}")]
    Unknown {
        /// The authorization.
        authorization: String,
    },
    /// The money is the merchant's: too late to give it back by a void.
    #[error("authorization {authorization} has been captured and cannot be voided")]
    Captured {
        /// The authorization.
        authorization: String,
    },
    /// Its database failed: ask again, under the same key.
    #[error("the provider's database failed")]
    Database(#[from] sqlx::Error),
    /// What it has stored cannot be read.
    #[error("the provider cannot read what it stored")]
    Codec(#[from] serde_json::Error),
}

impl ProviderError {
    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// The provider. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provider(SqlitePool);

impl Provider {
    /// Opens its database, made where it is missing.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        let pool = open_sqlite(file).await?;
        sqlx::raw_sql(include_str!("migrations/001-provider.sql"))
            .execute(&pool)
            .await?;
        Ok(Self(pool))
    }

    /// Holds a customer's money, or declines; the answer is the same for the same key for ever.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn authorize(
        &self,
        key: Uuid,
        order: &OrderId,
        customer: &str,
        amount: Money,
    ) -> Result<Result<String, Declined>, ProviderError> {
        let mut request = match self.receive("authorize", key, &(order, customer, amount)).await? {
            Received::Before(answer) => return Ok(answer),
            Received::Now(request) => request,
        };
        if amount > LIMIT || amount <= Money::ZERO {
            let reason = format!("{amount} is not within the limit of {LIMIT}");
            return request.answer(Err(Declined { reason })).await;
        }
        let id = format!("auth-{}", key.simple());
        sqlx::query(r#"insert into "authorization" values ($1, $2, $3, $4, 'authorized')"#)
            .bind(&id)
            .bind(order.as_str())
            .bind(customer)
            .bind(amount.as_minor())
            .execute(&mut *request.tx)
            .await?;
        request.post(&id, "customers", "held", amount).await?;
        request.answer(Ok(id)).await
    }

    /// Moves money that is held to the merchant; says why not where it is not held.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn capture(
        &self,
        key: Uuid,
        authorization: &str,
        amount: Money,
    ) -> Result<Result<Money, String>, ProviderError> {
        let mut request = match self.receive("capture", key, &(authorization, amount)).await? {
            Received::Before(answer) => return Ok(answer),
            Received::Now(request) => request,
        };
        let refusal = match find(&mut request.tx, authorization).await? {
            Some((held, AuthorizationState::Authorized)) if held == amount => None,
            Some((held, AuthorizationState::Authorized)) => Some(format!("{held} is held, not {amount}")),
            Some((_, state)) => Some(format!("the authorization is {}", state.as_str())),
            None => Some("there is no such authorization".to_owned()),
        };
        if let Some(reason) = refusal {
            return request.answer(Err(reason)).await;
        }
        request.transition(authorization, AuthorizationState::Captured).await?;
        request.post(authorization, "held", "merchant", amount).await?;
        request.answer(Ok(amount)).await
    }

    /// Gives money that is held back to the customer. Voided twice, it is voided.
    ///
    /// # Errors
    /// [`ProviderError::Captured`] where it is too late, and the others.
    pub async fn void(&self, key: Uuid, authorization: &str) -> Result<(), ProviderError> {
        let mut request = match self.receive("void", key, &authorization).await? {
            Received::Before(answer) => return Ok(answer),
            Received::Now(request) => request,
        };
        match find(&mut request.tx, authorization).await? {
            None => Err(ProviderError::Unknown {
                authorization: authorization.to_owned(),
            }),
            Some((_, AuthorizationState::Captured)) => Err(ProviderError::Captured {
                authorization: authorization.to_owned(),
            }),
            Some((_, AuthorizationState::Voided)) => request.answer(()).await,
            Some((amount, AuthorizationState::Authorized)) => {
                request.transition(authorization, AuthorizationState::Voided).await?;
                request.post(authorization, "held", "customers", amount).await?;
                request.answer(()).await
            }
        }
    }

    /// Its ledger at one moment.
    ///
    /// # Errors
    /// What the database says.
    pub async fn book(&self) -> Result<ProviderBook, sqlx::Error> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query_as(r#"select id, order_id, amount, state from "authorization" order by id"#);
        let rows = rows.fetch_all(&mut *tx).await?;
        let authorizations = rows.into_iter().map(held).collect::<Result<_, _>>()?;
        let mut balance = async |account: &'static str| {
            let sum = sqlx::query_scalar("select coalesce(sum(amount), 0) from posting where account = $1");
            sum.bind(account).fetch_one(&mut *tx).await.map(Money::minor)
        };
        let customers = balance("customers").await?;
        let held = balance("held").await?;
        let merchant = balance("merchant").await?;
        Ok(ProviderBook {
            authorizations,
            customers,
            held,
            merchant,
        })
    }

    async fn receive<A: DeserializeOwned>(
        &self,
        operation: &'static str,
        key: Uuid,
        body: &impl Serialize,
    ) -> Result<Received<A>, ProviderError> {
        let body = serde_json::to_string(body)?;
        // The write lock comes first, so that of two requests under one key the second sees the first one's answer.
        let mut tx = self.0.begin_with("begin immediate").await?;
        let before: Option<(String, String)> =
            sqlx::query_as("select body, answer from request where operation = $1 and idempotency_key = $2")
                .bind(operation)
                .bind(key.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        match before {
            None => Ok(Received::Now(Request {
                tx,
                operation,
                key,
                body,
            })),
            Some((first, answer)) if first == body => Ok(Received::Before(serde_json::from_str(&answer)?)),
            Some(_) => Err(ProviderError::KeyReused { operation, key }),
        }
    }
}

/// A row of an authorization as it is shown.
pub(crate) fn held(row: (String, String, i64, String)) -> Result<HeldAuthorization, sqlx::Error> {
    let (authorization, order, amount, state) = row;
    let state = AuthorizationState::parse(&state).ok_or_else(|| sqlx::Error::Decode(state.into()))?;
    Ok(HeldAuthorization {
        authorization,
        order: OrderId::from(order),
        amount: Money::minor(amount),
        state,
    })
}

async fn find(
    connection: &mut SqliteConnection,
    authorization: &str,
) -> Result<Option<(Money, AuthorizationState)>, sqlx::Error> {
    let row = sqlx::query_as(r#"select id, order_id, amount, state from "authorization" where id = $1"#)
        .bind(authorization)
        .fetch_optional(connection)
        .await?;
    let found = row.map(held).transpose()?;
    Ok(found.map(|found| (found.amount, found.state)))
}

enum Received<A> {
    /// It was answered before.
    Before(A),
    /// It is new.
    Now(Request),
}

/// A request that is being answered: its effects and its answer are one transaction.
struct Request {
    tx: Transaction<'static, Sqlite>,
    operation: &'static str,
    key: Uuid,
    body: String,
}

impl Request {
    async fn transition(&mut self, authorization: &str, to: AuthorizationState) -> Result<(), sqlx::Error> {
        sqlx::query(r#"update "authorization" set state = $1 where id = $2"#)
            .bind(to.as_str())
            .bind(authorization)
            .execute(&mut *self.tx)
            .await
            .map(drop)
    }
    async fn post(&mut self, authorization: &str, from: &str, to: &str, amount: Money) -> Result<(), sqlx::Error> {
        sqlx::query("insert into posting values ($1, $2, $3, -$5), ($1, $2, $4, $5)")
            .bind(authorization)
            .bind(self.operation)
            .bind(from)
            .bind(to)
            .bind(amount.as_minor())
            .execute(&mut *self.tx)
            .await
            .map(drop)
    }
    async fn answer<A: Serialize>(mut self, answer: A) -> Result<A, ProviderError> {
        sqlx::query("insert into request values ($1, $2, $3, $4)")
            .bind(self.operation)
            .bind(self.key.to_string())
            .bind(&self.body)
            .bind(serde_json::to_string(&answer)?)
            .execute(&mut *self.tx)
            .await?;
        self.tx.commit().await?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn provider() -> (Provider, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (
            Provider::open(&directory.path().join("provider.db")).await.unwrap(),
            directory,
        )
    }

    fn order() -> OrderId {
        OrderId::numbered(1)
    }

    const TEN: Money = Money::minor(1_000);

    #[tokio::test]
    async fn repeated_request_gets_the_first_answer_and_acts_once() {
        let (provider, _directory) = provider().await;
        let key = Uuid::now_v7();
        let first = provider.authorize(key, &order(), "ada", TEN).await.unwrap().unwrap();
        let again = provider.authorize(key, &order(), "ada", TEN).await.unwrap().unwrap();
        assert_eq!(first, again);
        for _ in 0..2 {
            assert_eq!(provider.capture(key, &first, TEN).await.unwrap(), Ok(TEN));
        }
        let book = provider.book().await.unwrap();
        assert_eq!(book.authorizations.len(), 1);
        assert_eq!(
            (book.customers, book.held, book.merchant),
            (Money::minor(-1_000), Money::ZERO, TEN)
        );
    }

    #[tokio::test]
    async fn key_of_another_request_is_refused() {
        let (provider, _directory) = provider().await;
        let key = Uuid::now_v7();
        provider.authorize(key, &order(), "ada", TEN).await.unwrap().unwrap();
        let other = provider.authorize(key, &order(), "bob", TEN).await;
        assert!(matches!(other, Err(ProviderError::KeyReused { .. })));
    }

    #[tokio::test]
    async fn too_much_is_declined_and_stays_declined() {
        let (provider, _directory) = provider().await;
        let key = Uuid::now_v7();
        let much = LIMIT.plus(Money::minor(1)).unwrap();
        let first = provider.authorize(key, &order(), "ada", much).await.unwrap();
        assert!(first.is_err());
        assert_eq!(provider.authorize(key, &order(), "ada", much).await.unwrap(), first);
        assert_eq!(provider.book().await.unwrap(), ProviderBook::default());
    }

    #[tokio::test]
    async fn voided_money_is_the_customers_and_cannot_be_captured() {
        let (provider, _directory) = provider().await;
        let held = provider
            .authorize(Uuid::now_v7(), &order(), "ada", TEN)
            .await
            .unwrap()
            .unwrap();
        provider.void(Uuid::now_v7(), &held).await.unwrap();
        provider.void(Uuid::now_v7(), &held).await.unwrap();
        assert!(provider.capture(Uuid::now_v7(), &held, TEN).await.unwrap().is_err());
        let book = provider.book().await.unwrap();
        assert_eq!(
            (book.customers, book.held, book.merchant),
            (Money::ZERO, Money::ZERO, Money::ZERO)
        );
    }

    #[tokio::test]
    async fn captured_money_cannot_be_voided() {
        let (provider, _directory) = provider().await;
        let held = provider
            .authorize(Uuid::now_v7(), &order(), "ada", TEN)
            .await
            .unwrap()
            .unwrap();
        provider.capture(Uuid::now_v7(), &held, TEN).await.unwrap().unwrap();
        let void = provider.void(Uuid::now_v7(), &held).await;
        assert!(matches!(void, Err(ProviderError::Captured { .. })));
    }

    #[tokio::test]
    async fn requests_at_once_under_one_key_act_once() {
        let (provider, _directory) = provider().await;
        let key = Uuid::now_v7();
        let (order, one) = (order(), &provider);
        let ask = || one.authorize(key, &order, "ada", TEN);
        let (a, b, c) = tokio::try_join!(ask(), ask(), ask()).unwrap();
        assert!(a == b && b == c);
        assert_eq!(provider.book().await.unwrap().held, TEN);
    }
}
