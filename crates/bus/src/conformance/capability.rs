//! What is declared works; what is not declared is refused.

use std::time::Duration;

use super::{
    Harness,
    fixture::{Fixture, number, numbered, topic},
};
use crate::{
    Bus, Capabilities, Error, Message, Order, OrderScope, Result, Retry, Router, Subscribe, Topic, headers::name,
};

fn is_unsupported<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Unsupported { .. }))
}

/// What a connection's transport declares, as a row of a table in Markdown: a document that has it says what holds.
///
/// Its columns are the transport, the scope of a key's order, then in the order of [`Capabilities`] what it can do.
pub fn declared(transport: &str, bus: &Bus) -> String {
    let Capabilities {
        order_scope,
        ordered_retry,
        durable,
        delay,
        groups,
        replay,
        dedupe,
        wildcards,
    } = bus.capabilities();
    let scope = match order_scope {
        OrderScope::None => "",
        OrderScope::Process => "a connection",
        OrderScope::Group => "the whole group",
    };
    let can =
        [ordered_retry, durable, delay, groups, replay, dedupe, wildcards].map(|can| if can { "yes" } else { "" });
    let cells = [transport, scope].into_iter().chain(can);
    let cells: Vec<String> = cells
        .map(|cell| {
            if cell.is_empty() {
                " ".to_owned()
            } else {
                format!(" {cell} ")
            }
        })
        .collect();
    format!("|{}|", cells.join("|"))
}

/// Two groups each get every message; where that is not declared, the second is refused.
pub async fn each_group_gets_every_message<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut one = fixture.subscribe("one").await;
    if !fixture.promised.groups {
        let request = Subscribe::new(fixture.topic.clone(), "two").order_scope(fixture.promised.order_scope);
        assert!(is_unsupported(&fixture.bus.subscribe(request).await.map(drop)));
        return;
    }
    let mut two = fixture.subscribe("two").await;
    fixture.publish(numbered(0..50)).await;
    tokio::join!(one.ack_numbers(0..50), two.ack_numbers(0..50));
    assert!(one.is_silent().await && two.is_silent().await);
}

/// A group that comes later begins at the oldest message, or at its own time where replay is not declared.
pub async fn a_new_group_sees_old_messages<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut first = fixture.subscribe("first").await;
    fixture.publish(numbered(0..20)).await;
    first.ack_numbers(0..20).await;
    if !fixture.promised.groups {
        return;
    }
    let mut late = fixture.subscribe("late").await;
    let mut latest = fixture
        .subscribe_to(Subscribe::new(fixture.topic.clone(), "latest").start(crate::Start::Latest))
        .await;
    fixture.publish(numbered(20..21)).await;
    let begin = if fixture.promised.replay { 0 } else { 20 };
    late.ack_numbers(begin..21).await;
    latest.ack_numbers(20..21).await;
}

/// `x.*` gets `x.a` and `x.b`, and neither `x` nor `x.a.b`; where patterns are not declared they are refused.
pub async fn patterns_match_whole_words_or_are_refused<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let base = topic();
    let request = Subscribe::new(format!("{base}.*"), "group");
    if !fixture.promised.wildcards {
        let request = request.order_scope(fixture.promised.order_scope);
        assert!(is_unsupported(&fixture.bus.subscribe(request).await.map(drop)));
        return;
    }
    let mut inbox = fixture.subscribe_to(request).await;
    for (n, name) in ["", ".a", ".a.b", ".b"].into_iter().enumerate() {
        let topic = Topic::from(format!("{base}{name}"));
        fixture
            .bus
            .publish_to(topic, numbered(n..n + 1))
            .await
            .expect("it is published");
    }
    let mut got = Vec::new();
    for delivery in inbox.take(2).await {
        got.push((delivery.topic.to_string(), number(&delivery.message)));
        delivery.ack().await.expect("the ack is taken");
    }
    got.sort();
    assert_eq!(got, [(format!("{base}.a"), 1), (format!("{base}.b"), 3)]);
    assert!(inbox.is_silent().await);
}

/// An order over a whole group is refused where at most one within a process is declared, and that where none is.
pub async fn a_group_order_that_is_not_declared_is_refused<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    for scope in [OrderScope::Process, OrderScope::Group] {
        let request = Subscribe::new(fixture.topic.clone(), "group").order_scope(scope);
        let result = fixture.bus.subscribe(request).await.map(drop);
        let declared = scope <= fixture.promised.order_scope;
        assert_eq!(result.is_ok(), declared, "{scope:?}: {result:?}");
        assert!(declared || is_unsupported(&result), "{result:?}");
        let router = Router::new()
            .route(fixture.topic.clone(), async |_: Message| {})
            .order_scope(scope);
        let router = router.subscribe(fixture.bus.group("group")).await.map(drop);
        assert_eq!(router.is_ok(), declared, "{scope:?}: {router:?}");
    }
    let nothing = Subscribe::new(fixture.topic.clone(), "group").max_in_flight(0);
    assert!(is_unsupported(
        &fixture
            .bus
            .subscribe(nothing.order_scope(OrderScope::None))
            .await
            .map(drop)
    ));
}

/// A router without order whose retries wait is refused where the transport cannot delay.
pub async fn delays_without_order_are_refused_where_they_are_not_declared<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let retry = Retry::exponential(Duration::from_secs(1)..Duration::from_secs(2));
    let router = Router::new()
        .route(fixture.topic.clone(), async |_: Message| {})
        .retry(retry)
        .order(Order::None);
    let result = router
        .order_scope(OrderScope::None)
        .subscribe(fixture.bus.group("group"))
        .await
        .map(drop);
    assert_eq!(result.is_ok(), fixture.promised.delay, "{result:?}");
    assert!(fixture.promised.delay || is_unsupported(&result));
}

/// A mandatory message is refused while no group is subscribed, and taken once one is.
pub async fn a_mandatory_message_needs_a_group<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let message = Message::new("0").header(name::MANDATORY, "1");
    let refused = fixture.bus.publish_to(fixture.topic.clone(), [message.clone()]).await;
    assert!(
        matches!(&refused, Err(error @ Error::NoSubscriber { .. }) if error.is_retryable()),
        "{refused:?}"
    );
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish([message]).await;
    inbox.ack_numbers(0..1).await;
    assert!(inbox.is_silent().await, "what was refused is not there");
}

/// Over a transport that is not durable a settled publish returns when the groups are done, each message's for itself; over a
/// durable one when it is stored.
pub async fn a_settled_publish_waits_for_what_is_not_durable<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let publish =
        |bus: Bus, topic: Topic| tokio::spawn(async move { bus.publish_settled(&topic, numbered(0..3)).await });
    let publishing = publish(fixture.bus.clone(), fixture.topic.clone());
    let mut deliveries = inbox.take(3).await;
    if !fixture.promised.durable {
        for delivery in deliveries.drain(1..) {
            delivery.ack().await.expect("the ack is taken");
        }
        assert!(
            inbox.is_silent().await && !publishing.is_finished(),
            "one message is not settled yet"
        );
        deliveries
            .remove(0)
            .retry(Some(Duration::from_millis(100)))
            .await
            .expect("the retry is taken");
        deliveries = inbox.take(1).await;
        assert!(!publishing.is_finished(), "a retry settles nothing for good");
    }
    for delivery in deliveries {
        delivery.dead("enough").await.expect("it is given up");
    }
    let results = tokio::time::timeout(harness.patience(), publishing)
        .await
        .expect("it returns")
        .expect("no panic");
    assert!(results.len() == 3 && results.iter().all(Result::is_ok), "{results:?}");
    let nobody = fixture.bus.publish_settled(&topic(), numbered(0..1)).await;
    assert!(nobody[0].is_ok(), "nobody takes it, so it is done");
}

/// The same message published twice comes once, where that is declared; else twice.
pub async fn a_repeated_delivery_id_is_dropped_where_it_is_declared<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let message = Message::new("0").key("a");
    fixture.publish([message.clone()]).await;
    fixture.publish([message]).await;
    let times = if fixture.promised.dedupe { 1 } else { 2 };
    for _ in 0..times {
        inbox.next().await.ack().await.expect("the ack is taken");
    }
    assert!(inbox.is_silent().await);
}

/// The broker restarts in the middle of 300 messages: a durable one has lost none of those it confirmed.
pub async fn a_restart_of_the_broker_loses_nothing<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if !fixture.promised.durable {
        return;
    }
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..150)).await;
    let first = inbox.ack(50).await.len();
    if !harness.restart().await {
        return;
    }
    // The same connection must find its way back; a publish may fail meanwhile, and says so.
    for message in numbered(150..300) {
        let again = || fixture.bus.publish_to(fixture.topic.clone(), [message.clone()]);
        while let Err(error) = again().await {
            assert!(error.is_retryable(), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    drop(inbox);
    let mut inbox = fixture.subscribe("group").await;
    inbox.ack(300 - first).await;
}
