//! Staged events: sequenced behind nobody's back, in the order of their transactions, whoever sleeps or gives up.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use sagamill_eventstore::{Append, Batch, Error, EventStore, Expected, Guard, NewEvent, Position, Recorded, Version};
use sqlx::{PgPool, Postgres};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{append, check_dense, everything, execute, log, noted, number};

/// Rows that no store stages, as another program may: the transaction's own words.
const RAW: &str = "INSERT INTO es.staged (append_hash, event_id, append_id, expected, stream_id, type, payload)
    VALUES (1, $1, $1, $2, $3, $4, 'x')";

async fn stage_raw(store: &EventStore<Postgres>, stream: &str, expected: i16, name: &str) -> Uuid {
    let id = Uuid::now_v7();
    let row = sqlx::query(RAW).bind(id).bind(expected).bind(stream).bind(name);
    row.execute(store.pool()).await.unwrap();
    id
}

/// Nothing that was staged holds up what was staged after it.
#[tokio::test]
async fn what_can_have_no_position_is_set_aside() {
    let Some((store, _database)) = log().await else { return };
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no poison'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON es.event FOR EACH ROW WHEN (NEW.type = 'poison') EXECUTE FUNCTION refuse();
        INSERT INTO es.stream (stream_id, state) VALUES ('shut', 2)";
    execute(&store, refuse).await;
    store
        .commit(append("there", Expected::NoStream, [noted("x")]))
        .await
        .unwrap();
    let mut good = Vec::new();
    for n in 0..20 {
        match n {
            3 | 4 => drop(stage_raw(&store, "shut", -1, "noted").await),
            7 => drop(stage_raw(&store, "there", 0, "noted").await),
            11 | 12 => drop(stage_raw(&store, "a", -1, "poison").await),
            _ => good.push(stage_raw(&store, &format!("s-{}", n % 3), -1, "noted").await),
        }
    }
    store.ring();
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(events[1..].iter().map(|event| event.id).collect::<Vec<_>>(), good);
    let health = store.health().await.unwrap();
    assert_eq!((health.staged.waiting, health.staged.failed), (0, 5));
    let reasons = "SELECT count(*) FROM es.staged_failed WHERE reason IN ('stream closed', 'stream exists') OR reason LIKE '%no poison%'";
    assert_eq!(number(&store, reasons).await, 5);
    // Appends go on, also together with what is set aside.
    stage_raw(&store, "a", -1, "poison").await;
    store.ring();
    store
        .commit(append("there", Expected::Exact(Version(1)), [noted("y")]))
        .await
        .unwrap();
    let closed = store.commit(append("shut", Expected::Any, [noted("y")])).await;
    assert!(matches!(closed, Err(Error::Closed(_))), "{closed:?}");
    let mut tx = store.begin().await.unwrap();
    let closed = store.stage_in(&mut tx, "shut", [noted("y")]).await;
    assert!(matches!(closed, Err(Error::Closed(_))), "{closed:?}");
    let closed = store
        .append_in_checked(&mut tx, "shut", Expected::Any, [noted("y")])
        .await;
    assert!(matches!(closed, Err(Error::Closed(_))), "{closed:?}");
}

/// The events of one append stand together, whoever stages beside it.
#[tokio::test]
async fn appends_that_are_staged_at_once_are_not_mixed() {
    // Six appends of this many are fewer events than a drain takes at once: none of them is cut.
    let whole = stage_at_once(100).await;
    assert!(whole.is_none_or(|whole| whole == 6), "{whole:?} of 6 stand together");
}

/// Where more is staged at once than a drain takes, appends may be cut; their events keep their order all the same.
#[tokio::test]
async fn appends_that_are_more_than_a_drain_takes_keep_the_order_of_their_events() {
    let whole = stage_at_once(400).await;
    println!("{whole:?} of 6 were not cut");
}

/// Six transactions stage so many events each; how many of the appends stand together, and are known again as a whole.
async fn stage_at_once(size: usize) -> Option<usize> {
    let (store, _database) = log().await?;
    let staged = join_all((0..6).map(async |n| {
        let events: Vec<_> = (0..size).map(|k| noted(&format!("{n}.{k}"))).collect();
        let mut tx = store.begin().await.unwrap();
        store
            .stage_in(&mut tx, format!("s-{}", n % 2), events.clone())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        (n, events)
    }));
    let staged = staged.await;
    let events = everything(&store).await;
    check_dense(&events);
    let mut whole = 0;
    for (n, staged) in staged {
        let mine: Vec<_> = events
            .iter()
            .filter(|event| event.event.starts_with(format!("{n}.").as_bytes()))
            .collect();
        assert!(
            mine.iter()
                .map(|event| event.id)
                .eq(staged.iter().map(|event| event.id)),
            "in their order"
        );
        let together = mine[size - 1].position.0 - mine[0].position.0 == size as i64 - 1;
        // One that a drain has cut in two is known by its events alone.
        let repeated = store
            .commit(append(&format!("s-{}", n % 2), Expected::Any, staged))
            .await;
        match repeated {
            Ok(receipts) => {
                assert!(together && receipts[0].repeated && receipts[0].first == mine[0].position);
                whole += 1;
            }
            Err(error) => assert!(matches!(error, Error::IdReused(_)), "{error:?}"),
        }
    }
    Some(whole)
}

/// What a process leaves behind that dies after its commit is sequenced by whoever comes next.
#[tokio::test]
async fn what_nobody_rang_for_is_found() {
    let Some((store, database)) = log().await else { return };
    stage_raw(&store, "a", -1, "noted").await;
    store.close().await;
    let next = EventStore::connect(&database.url()).await.unwrap();
    let found = async {
        while next.head().await.unwrap().position < Position(1) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap();
    // And what was staged in a transaction that was committed by other means.
    let store = next.on::<Postgres>().unwrap();
    let mut tx = store.pool().begin().await.unwrap();
    store.stage_in(&mut tx, "a", [noted("2")]).await.unwrap();
    let waiting = tokio::spawn({
        let next = next.clone();
        async move {
            while next.head().await.unwrap().position < Position(2) {
                next.wait_for(Position(1)).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    tx.commit().await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap();
}

/// What was stored, refused or rolled back, as those who did it know.
#[derive(Default)]
struct Book {
    appended: Vec<(Append, Position, Version)>,
    staged: Vec<Uuid>,
    joined: Vec<Uuid>,
    never: Vec<Uuid>,
}

/// Whoever stands still in a transaction is gone by, and looked for as soon as he has ended: what he has staged is before what
/// he appends then, in whichever process.
#[tokio::test]
async fn what_was_staged_long_before_its_commit_comes_with_the_next_append() {
    let Some((store, database)) = log().await else { return };
    let other = EventStore::connect(&database.url())
        .await
        .unwrap()
        .on::<Postgres>()
        .unwrap();
    let stores = [&store, &other];
    let (stop, mut staged) = (CancellationToken::new(), 0_u64);
    let busy = |store: EventStore<Postgres>, of: usize| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut staged = 0_u64;
            while !stop.is_cancelled() {
                let mut tx = store.begin().await.unwrap();
                store
                    .stage_in(&mut tx, format!("busy-{of}"), [noted("x")])
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
                staged += 1;
            }
            staged
        })
    };
    let crowd: Vec<_> = (0..6).map(|of| busy(stores[of % 2].clone(), of)).collect();
    for round in 0..12_usize {
        // One to three of them, of both processes; each stages once more in the midst.
        let mut late = Vec::new();
        for n in 0..=round % 3 {
            let store = stores[(round + n) % 2];
            let mut tx = store.begin().await.unwrap();
            store
                .stage_in(&mut tx, format!("late-{round}-{n}"), [noted("first")])
                .await
                .unwrap();
            late.push((store, tx, n));
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        tokio::time::sleep(Duration::from_millis(150 + 60 * (round as u64 % 4))).await;
        for (store, mut tx, n) in late {
            let stream = format!("late-{round}-{n}");
            store
                .stage_in(&mut tx, stream.as_str(), [noted("second")])
                .await
                .unwrap();
            tx.commit().await.unwrap();
            let after = store
                .commit(append(&format!("after-{stream}"), Expected::NoStream, [noted("x")]))
                .await
                .unwrap();
            let mut read = store.read(stream.as_str());
            for expected in ["first", "second"] {
                let event = read.next().await.expect("it has a position").unwrap();
                assert_eq!(&event.event[..], expected.as_bytes());
                assert!(
                    event.position < after[0].first,
                    "{stream}: staged before, and sequenced after"
                );
            }
            staged += 2;
        }
    }
    stop.cancel();
    for busy in crowd {
        staged += busy.await.unwrap();
    }
    for store in stores {
        store.ring();
    }
    let events = everything(&store).await;
    check_dense(&events);
    let of_staged = |event: &&Recorded| !event.stream.as_str().starts_with("after-");
    assert_eq!(events.iter().filter(of_staged).count() as u64, staged);
}

fn stream(n: usize) -> String {
    format!("shared-{}", n % 16)
}

/// Appenders, stagers and joiners over the same streams, on several stores, for a while; then the books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_ways_into_the_log_at_once_and_then_the_books() {
    let Some((store, database)) = log().await else { return };
    execute(
        &store,
        "CREATE TABLE turn (stream_id text PRIMARY KEY, n bigint NOT NULL); CREATE TABLE effect (id uuid PRIMARY KEY)",
    )
    .await;
    let stop = CancellationToken::new();
    let other = EventStore::connect(&database.url()).await.unwrap();
    let stores = [store.any(), other];
    let mut tasks = Vec::new();
    for n in 0..12 {
        tasks.push(tokio::spawn(append_on_and_on(stores[n % 2].clone(), n, stop.clone())));
    }
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let joined = Arc::new(EventStore::<Postgres>::open(pool).await.unwrap());
    for n in 0..4 {
        tasks.push(tokio::spawn(stage_on_and_on(joined.clone(), n, stop.clone())));
    }
    for n in 0..2 {
        tasks.push(tokio::spawn(join_on_and_on(joined.clone(), n, stop.clone())));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.cancel();
    let mut book = Book::default();
    for task in tasks {
        let of = task.await.unwrap();
        book.appended.extend(of.appended);
        book.staged.extend(of.staged);
        book.joined.extend(of.joined);
        book.never.extend(of.never);
    }
    joined.ring();
    let events = everything(&joined).await;
    audit(&store, &events, &book).await;
    // Everything once more, by a process that remembers nothing: the first receipts, and not an event more.
    let late = EventStore::connect(&database.url()).await.unwrap();
    for (append, first, version) in book.appended.iter().take(500) {
        let again = late.commit(append.clone()).await.unwrap()[0];
        assert_eq!((again.repeated, again.first, again.version), (true, *first, *version));
    }
    assert_eq!(late.head().await.unwrap().position.0, events.len() as i64);
}

async fn audit(store: &EventStore<Postgres>, events: &[Recorded], book: &Book) {
    check_dense(events);
    let left = "SELECT (SELECT count(*) FROM es.staged) + (SELECT count(*) FROM es.staged_failed) + (SELECT count(*) FROM es.joined)";
    assert_eq!(number(store, left).await, 0);
    let by_id: HashMap<Uuid, &Recorded> = events.iter().map(|event| (event.id, event)).collect();
    let mut claimed = 0;
    for (append, first, version) in &book.appended {
        for (n, event) in append.events.iter().enumerate() {
            let stored = by_id[&event.id];
            assert_eq!(stored.position.0, first.0 + n as i64);
            assert_eq!(stored.version.0, version.0 - append.events.len() as i64 + 1 + n as i64);
            assert_eq!(stored.stream, append.stream);
            claimed += 1;
        }
    }
    assert!(
        book.never.iter().all(|id| !by_id.contains_key(id)),
        "what was refused or rolled back is not there"
    );
    let staged: HashSet<_> = book.staged.iter().collect();
    assert!(
        staged.iter().all(|id| by_id.contains_key(*id)),
        "no staged event is lost"
    );
    assert!(book.joined.iter().all(|id| by_id.contains_key(id)));
    assert_eq!(events.len(), claimed + staged.len() + book.joined.len());
    assert!(
        claimed > 100 && staged.len() > 50 && book.joined.len() > 10,
        "something was done"
    );
    let effects = "SELECT count(*) FROM effect f FULL JOIN (SELECT event_id FROM es.event WHERE type = 'joined') e ON f.id = e.event_id
        WHERE f.id IS NULL OR e.event_id IS NULL";
    assert_eq!(
        number(store, effects).await,
        0,
        "an effect is there if and only if its event is"
    );
    let swapped = "SELECT count(*) FROM (SELECT convert_from(payload, 'UTF8')::bigint
            - lag(convert_from(payload, 'UTF8')::bigint) OVER (PARTITION BY stream_id ORDER BY pos) AS step
        FROM es.event WHERE type = 'staged') x WHERE step <= 0";
    assert_eq!(
        number(store, swapped).await,
        0,
        "staged events are in the order of their transactions"
    );
}

async fn append_on_and_on(store: EventStore, of: usize, stop: CancellationToken) -> Book {
    let (mut book, mut guess, mut head) = (Book::default(), HashMap::<String, i64>::new(), 0);
    let mut n = of;
    while !stop.is_cancelled() {
        n += 7;
        let stream_of = stream(n * 5 + of);
        let expected = match n % 4 {
            0 => Expected::Any,
            1 => Expected::Exists,
            _ => Expected::Exact(Version(guess.get(&stream_of).copied().unwrap_or(0))),
        };
        let events: Vec<_> = (0..1 + n % 3).map(|_| noted("x")).collect();
        let append = append(&stream_of, expected, events);
        let guard = Guard {
            stream: stream(n + 3).as_str().into(),
            after: Position(head),
        };
        let batch = Batch {
            guards: (n.is_multiple_of(11)).then_some(guard).into_iter().collect(),
            ..append.clone().into()
        };
        match store.commit(batch.clone()).await {
            Ok(receipts) => {
                let receipt = receipts[0];
                guess.insert(stream_of, receipt.version.0);
                head = receipt.last.0;
                if n.is_multiple_of(13) {
                    let again = store.commit(batch).await.unwrap()[0];
                    assert_eq!((again.repeated, again.first), (true, receipt.first));
                }
                book.appended.push((append, receipt.first, receipt.version));
            }
            Err(error) => {
                if let Error::Conflict { actual, .. } = error {
                    guess.insert(stream_of, actual.0);
                } else {
                    assert!(matches!(error, Error::Guarded { .. }), "{error:?}");
                }
                book.never.extend(append.events.iter().map(|event| event.id));
            }
        }
    }
    book
}

/// Each takes its turn under a row's lock, which orders the transactions of a stream; some sleep, roll back, stage twice.
async fn stage_on_and_on(store: Arc<EventStore<Postgres>>, of: usize, stop: CancellationToken) -> Book {
    const TURN: &str =
        "INSERT INTO turn VALUES ($1, 1) ON CONFLICT (stream_id) DO UPDATE SET n = turn.n + 1 RETURNING n";
    let mut book = Book::default();
    let mut n = of;
    while !stop.is_cancelled() {
        n += 1;
        let stream = stream(n * 3 + of);
        let mut tx = store.begin().await.unwrap();
        let turn: i64 = sqlx::query_scalar(TURN)
            .bind(&stream)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let known = book
            .staged
            .get(book.staged.len() / 2)
            .copied()
            .filter(|_| n.is_multiple_of(17));
        let event = NewEvent {
            id: known.unwrap_or_else(Uuid::now_v7),
            ..NewEvent::new("staged", turn.to_string())
        };
        let id = event.id;
        store.stage_in(&mut tx, stream.as_str(), [event]).await.unwrap();
        if n.is_multiple_of(7) {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        if n.is_multiple_of(9) && known.is_none() {
            drop(tx);
            book.never.push(id);
        } else {
            tx.commit().await.unwrap();
            book.staged.push(id);
        }
    }
    book
}

async fn join_on_and_on(store: Arc<EventStore<Postgres>>, of: usize, stop: CancellationToken) -> Book {
    let mut book = Book::default();
    let (mut n, mut mine) = (of, 0);
    while !stop.is_cancelled() {
        n += 1;
        let own = n % 2 == 0;
        let (stream, version) = if own {
            (format!("joined-{of}"), mine)
        } else {
            (stream(n + of), 1)
        };
        let event = NewEvent::new("joined", "x");
        let id = event.id;
        let mut tx = store.begin().await.unwrap();
        sqlx::query("INSERT INTO effect VALUES ($1)")
            .bind(id)
            .execute(&mut *tx)
            .await
            .unwrap();
        let expected = if own {
            Expected::Exact(Version(version))
        } else {
            Expected::Exists
        };
        let joined = store
            .append_in_checked(&mut tx, stream.as_str(), expected, [event])
            .await;
        let joined = match joined {
            Ok(()) => tx.commit().await,
            refused => refused,
        };
        match joined {
            Ok(()) => {
                mine += i64::from(own);
                book.joined.push(id);
            }
            Err(error) => {
                assert!(matches!(error, Error::Conflict { .. }) && !own, "{error:?}");
                book.never.push(id);
            }
        }
    }
    book
}
