//! What a step does at the least: the transactions of the baselines.

use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::effect::Effects;

/// The effect in a transaction of its own.
pub(super) async fn effect(effects: Effects, id: Uuid) -> anyhow::Result<()> {
    let mut tx = effects.store().begin().await?;
    effects.insert(&mut tx, id).await?;
    Ok(tx.commit().await?)
}

/// The effect and a barrier row in one transaction.
pub(super) async fn barred(effects: Effects, id: Uuid) -> anyhow::Result<()> {
    let mut tx = effects.store().begin().await?;
    bar(&mut tx, id).await?;
    effects.insert(&mut tx, id).await?;
    Ok(tx.commit().await?)
}

/// The effect, a barrier row and a reply in one transaction.
pub(super) async fn answered(effects: Effects, id: Uuid) -> anyhow::Result<()> {
    let mut tx = effects.store().begin().await?;
    bar(&mut tx, id).await?;
    effects.insert(&mut tx, id).await?;
    sqlx::query("INSERT INTO bare_reply (id, payload) VALUES (?1, ?2)")
        .bind(id)
        .bind(&b"null"[..])
        .execute(&mut *tx)
        .await?;
    Ok(tx.commit().await?)
}

async fn bar(connection: &mut SqliteConnection, id: Uuid) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO saga_barrier (effect_id, phase, state, reply, command_name, command, definition, saga_id, saga_key,
           step, first_asked, updated_at)
         VALUES (?1, 'forward', 'done', ?2, 'bench.work', ?3, 'bench', ?1, '1-1', 'reserve', 1, 1)",
    )
    .bind(id)
    .bind(&b"null"[..])
    .bind(&b"{\"number\":1}"[..])
    .execute(connection)
    .await?;
    Ok(())
}
