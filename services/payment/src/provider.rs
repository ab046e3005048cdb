//! A fake payment provider: another company's system, with its own database and its own ledger. It knows nothing of sagas;
//! what it offers is what such providers do, a key that makes a request happen once.

use serde::{Serialize, de::DeserializeOwned};
use shop_contracts::{AuthorizationState, Declined, HeldAuthorization, Money, OrderId, ProviderBook};
use shop_frame::{Db, Location, Script, Sql, script, values};
use sqlx::{Pool, Transaction};
use uuid::Uuid;

const TABLES: Script = script!("001-provider.sql");

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
#[derive(Debug)]
pub struct Provider<D: Db>(Pool<D>);

impl<D: Db> Clone for Provider<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Db> Provider<D> {
    /// Opens its database, with its tables made where they are missing.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(database: &Location) -> Result<Self, sqlx::Error> {
        Ok(Self(shop_frame::open(database, &TABLES).await?))
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
        let grant = r#"insert into "authorization" values ($1, $2, $3, $4, 'authorized')"#;
        let values = values![&id, order.as_str(), customer, amount.as_minor()];
        request.sql().execute(grant, &values).await?;
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
        let capture = r#"update "authorization" set state = 'captured'
            where id = $1 and amount = $2 and state = 'authorized'"#;
        let values = values![authorization, amount.as_minor()];
        if request.sql().execute(capture, &values).await? == 1 {
            request.post(authorization, "held", "merchant", amount).await?;
            return request.answer(Ok(amount)).await;
        }
        let reason = match find(&mut request.sql(), authorization).await? {
            Some((held, AuthorizationState::Authorized)) => format!("{held} is held, not {amount}"),
            Some((_, state)) => format!("the authorization is {}", state.as_str()),
            None => "there is no such authorization".to_owned(),
        };
        request.answer(Err(reason)).await
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
        let void =
            r#"update "authorization" set state = 'voided' where id = $1 and state = 'authorized' returning amount"#;
        let voided: Option<(i64,)> = request.sql().row(void, &values![authorization]).await?;
        if let Some((amount,)) = voided {
            let amount = Money::minor(amount);
            request.post(authorization, "held", "customers", amount).await?;
            return request.answer(()).await;
        }
        let authorization = authorization.to_owned();
        match find(&mut request.sql(), &authorization).await? {
            None => Err(ProviderError::Unknown { authorization }),
            Some((_, AuthorizationState::Captured)) => Err(ProviderError::Captured { authorization }),
            Some(_) => request.answer(()).await,
        }
    }

    /// Its ledger at one moment.
    ///
    /// # Errors
    /// What the database says.
    pub async fn book(&self) -> Result<ProviderBook, sqlx::Error> {
        let mut tx = shop_frame::snapshot(&self.0).await?;
        let mut sql = D::sql(&mut tx);
        let all = r#"select id, order_id, amount, state from "authorization" order by id"#;
        let authorizations = sql.rows(all, &[]).await?.into_iter().map(held);
        let authorizations = authorizations.collect::<Result<_, _>>()?;
        let mut balance = async |account: &'static str| {
            let sum = "select cast(coalesce(sum(amount), 0) as bigint) from posting where account = $1";
            sql.value(sum, &values![account]).await.map(Money::minor)
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
    ) -> Result<Received<D, A>, ProviderError> {
        let body = serde_json::to_string(body)?;
        let mut tx = shop_frame::begin(&self.0).await?;
        let mut sql = D::sql(&mut tx);
        // Of two requests under one key the second waits here for the end of the first, and then sees its answer.
        let receive = "insert into request values ($1, $2, $3, '') on conflict do nothing";
        let new = sql
            .execute(receive, &values![operation, key.to_string(), &body])
            .await?;
        if new == 1 {
            return Ok(Received::Now(Request { tx, operation, key }));
        }
        let before = "select body, answer from request where operation = $1 and idempotency_key = $2";
        let before: Option<(String, String)> = sql.row(before, &values![operation, key.to_string()]).await?;
        match before {
            Some((first, answer)) if first == body => Ok(Received::Before(serde_json::from_str(&answer)?)),
            _ => Err(ProviderError::KeyReused { operation, key }),
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

async fn find(sql: &mut Sql<'_>, authorization: &str) -> Result<Option<(Money, AuthorizationState)>, sqlx::Error> {
    let one = r#"select id, order_id, amount, state from "authorization" where id = $1"#;
    let found = sql.row(one, &values![authorization]).await?.map(held).transpose()?;
    Ok(found.map(|found| (found.amount, found.state)))
}

enum Received<D: Db, A> {
    /// It was answered before.
    Before(A),
    /// It is new.
    Now(Request<D>),
}

/// A request that is being answered: its effects and its answer are one transaction.
struct Request<D: Db> {
    tx: Transaction<'static, D>,
    operation: &'static str,
    key: Uuid,
}

impl<D: Db> Request<D> {
    fn sql(&mut self) -> Sql<'_> {
        D::sql(&mut self.tx)
    }
    async fn post(&mut self, authorization: &str, from: &str, to: &str, amount: Money) -> Result<(), sqlx::Error> {
        let post = "insert into posting values ($1, $2, $3, -$5), ($1, $2, $4, $5)";
        let values = values![authorization, self.operation, from, to, amount.as_minor()];
        self.sql().execute(post, &values).await.map(drop)
    }
    async fn answer<A: Serialize>(mut self, answer: A) -> Result<A, ProviderError> {
        let note = "update request set answer = $3 where operation = $1 and idempotency_key = $2";
        let json = serde_json::to_string(&answer)?;
        let values = values![self.operation, self.key.to_string(), json];
        self.sql().execute(note, &values).await?;
        self.tx.commit().await?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Sqlite;

    use super::*;

    async fn provider() -> (Provider<Sqlite>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = Location::File(directory.path().join("provider.db"));
        (Provider::open(&file).await.unwrap(), directory)
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
