//! What was given up.

use sagamill_bus::{Bus, Error, Message, Subscribe, Topic};
use sagamill_testkit::rabbitmq;

use crate::fixture::{connect, is_silent, next, number, shared, topic};

async fn give_up(bus: &Bus, topic: &Topic, count: usize) {
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let numbered = (0..count).map(|n| Message::new(n.to_string()));
    bus.publish_to(topic.clone(), numbered).await.unwrap();
    for _ in 0..count {
        next(&mut stream).await.dead("enough").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_takes_nothing_out_and_keeps_the_order() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("look"));
    give_up(&bus, &topic, 30).await;
    let dead = bus.dead_letters(topic.clone(), "group").unwrap();
    for _ in 0..3 {
        let (first, rest) = (dead.list(None, 10).await.unwrap(), dead.list(None, 100).await.unwrap());
        assert_eq!((first.len(), rest.len()), (10, 30));
        assert!(rest.iter().map(|letter| number(&letter.message)).eq(0..30));
        let after = dead.list(Some(first[9].position), 100).await.unwrap();
        assert!(after.iter().map(|letter| number(&letter.message)).eq(10..30));
    }
    // Two at once do not hide anything from each other.
    let other = connect(&url).await;
    let others = other.dead_letters(topic, "group").unwrap();
    let (own, theirs) = tokio::join!(dead.list(None, 100), others.list(None, 100));
    assert_eq!((own.unwrap().len(), theirs.unwrap().len()), (30, 30));
    dead.discard(dead.list(None, 6).await.unwrap()[5].message.id)
        .await
        .unwrap();
    let rest = dead.list(None, 100).await.unwrap();
    assert!(
        rest.iter()
            .map(|letter| number(&letter.message))
            .eq((0..5).chain(6..30))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_requeued_at_once_comes_at_once_and_over_a_crash() {
    let Some(server) = rabbitmq::own().await else { return };
    let (bus, topic) = (connect(server.url()).await, topic("requeue"));
    give_up(&bus, &topic, 2).await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let bus = connect(server.url()).await;
    let queues = bus.dead_letter_queues().await.unwrap();
    assert_eq!(queues.iter().map(|queue| queue.count).collect::<Vec<_>>(), [2]);
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let dead = bus.dead_letters(topic, "group").unwrap();
    let id = dead.list(None, 1).await.unwrap()[0].message.id;
    dead.requeue(id).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_eq!((delivery.message.id, delivery.attempt), (id, 1));
    delivery.ack().await.unwrap();
    assert!(matches!(dead.requeue(id).await, Err(Error::NoDeadLetter { .. })));
    assert!(is_silent(&mut stream).await);
}
