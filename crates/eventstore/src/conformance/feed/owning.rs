//! Owning shards: one process at a time, and a fence between one and the next.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Paced, checkpoint, fill, follow, gain, next_event, sub};
use crate::{
    Error, EventStore, Member, Position, ShardBy, Signal, Subscription, Timer,
    conformance::{Subject, stall::Stall},
};

/// A process that was stopped for longer than its lease is told by its own clock, its saves are refused, and it hears of it;
/// the new owner's checkpoint stands.
pub async fn paused_owner_is_fenced(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 10).await;
    let stall = Stall::of(&store);
    let mut paused = Subscription::new(stall.clone(), "stolen")
        .lease(subject.ttl())
        .open()
        .await
        .unwrap();
    let progress = paused.progress();
    let held: Vec<_> = [next_event(&mut paused).await, next_event(&mut paused).await].into();
    assert!(progress.holds(0));
    stall.stop(true);
    let mut thief = sub(&subject.open().await, subject, "stolen").open().await.unwrap();
    gain(&mut thief, 1).await;
    assert!(!progress.holds(0), "two thirds of the lease are over");
    follow(&mut thief, 0, 10).await;
    held.iter()
        .for_each(|(shard, position)| progress.done(*shard, *position));
    stall.stop(false);
    loop {
        match paused.next().await.unwrap() {
            Signal::Lost { shard: 0 } => break,
            Signal::Event { .. } => panic!("an event was handed out under a lost lease"),
            _ => (),
        }
    }
    thief.close().await.unwrap();
    assert_eq!(checkpoint(&store, "stolen").await.position, Position(10));
    drop(paused);
    store.close().await;
}

/// Two processes share the shards; when one is closed, the other has all of them at once, and nothing is skipped or repeated.
pub async fn processes_share_shards_and_take_over_at_a_close(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let (one, two) = (subject.open().await, subject.open().await);
    fill(&one, 40).await;
    let open = |store: &EventStore| sub(store, subject, "shared").shards(4, ShardBy::Stream).open();
    let mut first = open(&one).await.unwrap();
    follow(&mut first, 0, 40).await;
    let mut second = open(&two).await.unwrap();
    // The newcomer's fair part comes to it while the other one goes on.
    tokio::join!(gain(&mut second, 2), async {
        let mut lost = 0;
        while lost < 2 {
            lost += usize::from(matches!(first.next().await.unwrap(), Signal::Lost { .. }));
        }
    });
    fill(&one, 40).await;
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let (feed, signal) = tokio::select! {
            signal = first.next() => (&first, signal),
            signal = second.next() => (&second, signal),
        };
        if let Signal::Event { shard, event } = signal.unwrap() {
            seen.push(event.position.0);
            feed.progress().done(shard, event.position);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (41..=80).collect::<Vec<_>>());
    first.close().await.unwrap();
    gain(&mut second, 2).await;
    fill(&two, 10).await;
    follow(&mut second, 80, 90).await;
    second.close().await.unwrap();
    assert_eq!(checkpoint(&one, "shared").await.position, Position(90));
    one.close().await;
    two.close().await;
}

/// A process that dies without a word is replaced when its leases end; what it had not saved comes again.
pub async fn shards_of_a_dead_process_are_taken_over(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let (one, two) = (subject.open().await, subject.open().await);
    fill(&one, 20).await;
    let open = |store: &EventStore| sub(store, subject, "orphan").shards(4, ShardBy::Stream).open();
    let mut dead = open(&one).await.unwrap();
    let _ = next_event(&mut dead).await;
    drop(dead);
    let mut heir = open(&two).await.unwrap();
    gain(&mut heir, 4).await;
    follow(&mut heir, 0, 20).await;
    heir.close().await.unwrap();
    one.close().await;
    two.close().await;
}

/// Timers live with their shard: the next owner finds them, and the last one can write none.
pub async fn timers_are_fenced_and_survive_a_take_over(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let stall = Stall::of(&store);
    let mut paused = Subscription::new(stall.clone(), "timers")
        .lease(subject.ttl())
        .open()
        .await
        .unwrap();
    gain(&mut paused, 1).await;
    let (progress, now) = (paused.progress(), store.now());
    let timer = |id: &str, seconds: u64| Timer {
        id: id.to_owned(),
        due: now + Duration::from_secs(seconds),
        payload: id.as_bytes().to_vec(),
    };
    let (a, b, c) = (timer("a", 300), timer("b", 100), timer("c", 200));
    progress
        .schedule(0, &[timer("a", 900), b.clone(), c.clone()])
        .await
        .unwrap();
    progress.schedule(0, std::slice::from_ref(&a)).await.unwrap();
    let before = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(progress.timers(0, before(250)).await.unwrap(), [b.clone(), c.clone()]);
    stall.stop(true);
    let mut thief = sub(&store, subject, "timers").open().await.unwrap();
    gain(&mut thief, 1).await;
    let thief_progress = thief.progress();
    thief_progress.unschedule(0, &["c".to_owned()]).await.unwrap();
    assert_eq!(thief_progress.timers(0, before(1_000)).await.unwrap(), [b, a]);
    stall.stop(false);
    let refused = progress.schedule(0, &[c]).await;
    assert!(matches!(refused, Err(Error::Fenced { shard: 0, .. })), "{refused:?}");
    let refused = progress.unschedule(0, &["a".to_owned()]).await;
    assert!(matches!(refused, Err(Error::Fenced { shard: 0, .. })), "{refused:?}");
    assert_eq!(thief_progress.timers(0, before(1_000)).await.unwrap().len(), 2);
    thief.close().await.unwrap();
    store.close().await;
}

/// The number of shards is part of the name.
pub async fn another_number_of_shards_is_refused(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    sub(&store, subject, "fixed")
        .shards(4, ShardBy::Stream)
        .open()
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let opened = sub(&store, subject, "fixed").shards(5, ShardBy::Stream).open().await;
    assert!(matches!(opened, Err(Error::Invalid { .. })), "{opened:?}");
    store.close().await;
}

/// Whoever works under a name hears who else does and what they say of themselves; who says nothing any more is gone.
pub async fn members_hear_what_each_says_of_itself(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let (one, two) = (subject.open().await, subject.open().await);
    let (first, second, ttl) = (one.new_id(), two.new_id(), subject.ttl());
    let said = |members: Vec<Member>| -> Vec<(Uuid, Option<String>)> {
        let mut all: Vec<_> = members.into_iter().map(|member| (member.id, member.about)).collect();
        all.sort_unstable();
        all
    };
    let both = |of: &str, and: &str| {
        let mut both = vec![(first, Some(of.to_owned())), (second, Some(and.to_owned()))];
        both.sort_unstable();
        both
    };
    one.join("crew", first, "{\"knows\":1}", ttl).await.unwrap();
    let heard = two.join("crew", second, "{\"knows\":2}", ttl).await.unwrap();
    assert_eq!(said(heard), both("{\"knows\":1}", "{\"knows\":2}"));
    let heard = one.join("crew", first, "{\"knows\":3}", ttl).await.unwrap();
    assert_eq!(
        said(heard),
        both("{\"knows\":3}", "{\"knows\":2}"),
        "what is said last counts"
    );
    let other = one.join("another crew", first, "{}", ttl).await.unwrap();
    assert_eq!(said(other), [(first, Some("{}".to_owned()))]);
    two.leave("crew", second).await.unwrap();
    let alone = one.join("crew", first, "{}", ttl).await.unwrap();
    assert_eq!(said(alone), [(first, Some("{}".to_owned()))]);
    // The first dies without a word: it is named for as long as it said, and no longer.
    loop {
        tokio::time::sleep(ttl / 4).await;
        let heard = said(two.join("crew", second, "{}", ttl).await.unwrap());
        if heard == [(second, Some("{}".to_owned()))] {
            break;
        }
        assert_eq!(heard, both("{}", "{}"));
    }
    one.close().await;
    two.close().await;
}
