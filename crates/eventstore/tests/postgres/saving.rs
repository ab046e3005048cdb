//! Checkpoints of many shards, saved at once.

use sagamill_eventstore::EventStore;
use sqlx::{Postgres, Row};
use uuid::Uuid;

use super::{execute, log, number};

/// One shard's claim: its number, its fence, and how far it has come.
type Claim = (i32, i64, i64);

async fn save(store: &EventStore<Postgres>, owner: Uuid, claims: &[Claim]) -> Vec<bool> {
    let column = |of: fn(&Claim) -> i64| claims.iter().map(of).collect::<Vec<_>>();
    sqlx::query("SELECT es.checkpoint_save($1, $2, $3, $4, $5, $6)")
        .bind(vec!["reader"; claims.len()])
        .bind(claims.iter().map(|claim| claim.0).collect::<Vec<_>>())
        .bind(vec![owner; claims.len()])
        .bind(column(|claim| claim.1))
        .bind(column(|claim| claim.2))
        .bind(vec![Uuid::now_v7(); claims.len()])
        .fetch_one(store.pool())
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_save_of_many_shards_moves_those_that_are_held_and_no_other() {
    let Some((store, _database)) = log().await else { return };
    let owner = Uuid::now_v7();
    let rows = format!(
        "INSERT INTO es.checkpoint (name, shard, pos, owner, fence) SELECT 'reader', n, 10, '{owner}', 7 FROM generate_series(0, 3) n;
         INSERT INTO es.checkpoint (name, shard, pos, owner, fence) VALUES ('other', 0, 10, '{owner}', 7)"
    );
    execute(&store, &rows).await;
    assert_eq!(save(&store, owner, &[]).await, Vec::<bool>::new());
    assert_eq!(save(&store, Uuid::now_v7(), &[(0, 7, 20)]).await, [false]);
    // One is held and moves, one has another owner since, one would go back, and one is not there.
    let claims = [(0, 7, 20), (1, 6, 20), (2, 7, 5), (9, 7, 20)];
    assert_eq!(save(&store, owner, &claims).await, [true, false, true, false]);
    let positions = "SELECT sum(pos * 100 ^ shard)::bigint FROM es.checkpoint WHERE name = 'reader'";
    assert_eq!(number(&store, positions).await, 10_101_020);
    assert_eq!(
        number(&store, "SELECT pos FROM es.checkpoint WHERE name = 'other'").await,
        10
    );
    let anchors = "SELECT count(*) FROM es.anchor WHERE name = 'reader' AND shard = 0 AND pos = 20";
    assert_eq!(number(&store, anchors).await, 1);
    assert_eq!(number(&store, "SELECT count(*) FROM es.anchor").await, 1);
}

#[tokio::test]
async fn the_last_64_places_of_each_shard_are_kept() {
    let Some((store, _database)) = log().await else { return };
    let owner = Uuid::now_v7();
    let rows = format!(
        "INSERT INTO es.checkpoint (name, shard, owner, fence) SELECT 'reader', n, '{owner}', 1 FROM generate_series(0, 2) n;
         INSERT INTO es.anchor SELECT 'other', 0, n, n, gen_random_uuid() FROM generate_series(0, 63) n"
    );
    execute(&store, &rows).await;
    for position in 1..=70 {
        // The last shard comes half as far, so that what is kept differs.
        let claims = [(0, 1, position), (1, 1, position), (2, 1, (position + 1) / 2)];
        assert_eq!(save(&store, owner, &claims).await, [true; 3]);
        execute(
            &store,
            "UPDATE es.checkpoint SET anchored_at = anchored_at - interval '2 s'",
        )
        .await;
    }
    let kept = "SELECT count(*) * 1000 + min(pos) FROM es.anchor WHERE name = 'reader' AND shard < 2 GROUP BY shard";
    let kept: Vec<i64> = sqlx::query_scalar(kept).fetch_all(store.pool()).await.unwrap();
    assert_eq!(kept, [64_007, 64_007]);
    let kept = "SELECT count(*) * 1000 + min(pos) FROM es.anchor WHERE name = 'reader' AND shard = 2";
    assert_eq!(number(&store, kept).await, 35_001);
    assert_eq!(
        number(
            &store,
            "SELECT count(*) * 1000 + sum(pos)::bigint FROM es.anchor WHERE name = 'other'"
        )
        .await,
        64_000 + 63 * 32
    );
}

#[tokio::test]
async fn a_place_is_kept_once_a_second_whatever_the_clock_did() {
    let Some((store, _database)) = log().await else { return };
    let owner = Uuid::now_v7();
    let row = format!("INSERT INTO es.checkpoint (name, shard, owner, fence) VALUES ('reader', 0, '{owner}', 1)");
    execute(&store, &row).await;
    let kept = "SELECT coalesce(sum(pos), 0)::bigint FROM es.anchor";
    for (position, last, sum) in [
        (1, "-infinity", 1),
        (10, "now", 1),
        (100, "2 s ago", 101),
        (1_000, "tomorrow", 1_101),
    ] {
        let set = match last {
            "2 s ago" => "clock_timestamp() - interval '2 s'".to_owned(),
            "now" => "clock_timestamp()".to_owned(),
            other => format!("'{other}'"),
        };
        execute(&store, &format!("UPDATE es.checkpoint SET anchored_at = {set}")).await;
        assert_eq!(save(&store, owner, &[(0, 1, position)]).await, [true]);
        assert_eq!(number(&store, kept).await, sum, "the last one was kept {last}");
    }
}
