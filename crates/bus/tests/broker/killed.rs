//! A message that kills its process: given up after one delivery more than its attempts, and not on the cost of others.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use sagamill_bus::{Attempt, Message, Retry, Router, State, Subscribe, Topic};

use crate::fixture::{PATIENCE, Took, connect, shared, text, topic};

const URL: &str = "SAGAMILL_TEST_KILLED_URL";
const TOPIC: &str = "SAGAMILL_TEST_KILLED_TOPIC";
const DIARY: &str = "SAGAMILL_TEST_KILLED_DIARY";
const ATTEMPTS: u32 = 3;

/// Writes down what is tried before it is tried, so that it is read after a death.
async fn handle(State(diary): State<PathBuf>, Attempt(attempt): Attempt, message: Message) {
    let mut diary = OpenOptions::new().append(true).open(diary).unwrap();
    let text = text(&message);
    diary.write_all(format!("{text} {attempt}\n").as_bytes()).unwrap();
    if text == "poison" {
        std::process::abort();
    }
}

/// Not a test by itself: the process that is killed, until the message is a dead letter.
#[tokio::test]
#[ignore = "the process of another test"]
async fn consumer() {
    let Ok(url) = std::env::var(URL) else { return };
    let topic = Topic::from(std::env::var(TOPIC).unwrap());
    let bus = connect(&url).await;
    let retry = Retry::exponential(Duration::from_millis(1)..Duration::from_millis(2)).attempts(ATTEMPTS);
    let router = Router::new().route(topic.clone(), handle).retry(retry);
    let router = router.with_state(PathBuf::from(std::env::var(DIARY).unwrap()));
    let dead = bus.dead_letters(topic, "group").unwrap();
    let all_done = async move {
        while dead.list(None, 1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Those behind it.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    router
        .subscribe(bus.group("group"))
        .await
        .unwrap()
        .run(all_done)
        .await
        .unwrap();
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_its_process_is_given_up_and_others_are_counted_once() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("a message that kills");
    let (bus, topic) = (connect(&url).await, topic("killed"));
    let folder = tempfile::tempdir().unwrap();
    let diary = folder.path().join("diary");
    fs::write(&diary, "").unwrap();
    let innocents = |of: std::ops::Range<usize>| of.map(|n| Message::new(n.to_string()));
    let all = innocents(0..10)
        .chain([Message::new("poison")])
        .chain(innocents(10..20));
    // Not every broker keeps for a group what came before its first process.
    drop(bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap());
    bus.publish_to(topic.clone(), all).await.unwrap();
    let consume = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::consumer", "--ignored"])
            .envs([(URL, url.as_str()), (TOPIC, topic.as_ref())])
            .env(DIARY, &diary)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut deaths = 0;
    loop {
        let mut child = consume();
        let ended = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || child.wait())).await;
        if ended.expect("it ends").unwrap().unwrap().success() {
            break;
        }
        deaths += 1;
        assert!(deaths <= ATTEMPTS + 1, "it is tried again and again");
    }
    let diary = fs::read_to_string(&diary).unwrap();
    println!("{deaths} deaths; {diary:?}");
    let tried = |what: &str| {
        diary
            .lines()
            .filter(|line| line.starts_with(&format!("{what} ")))
            .count()
    };
    assert_eq!(tried("poison"), ATTEMPTS as usize + 1);
    for n in 0..20 {
        assert!(tried(&n.to_string()) >= 1, "{n} was not handled");
    }
    assert!(
        diary
            .lines()
            .all(|line| line.starts_with("poison") || line.ends_with(" 1") || line.ends_with(" 2")),
        "an innocent was counted more than once"
    );
    let letters = bus.dead_letters(topic, "group").unwrap().list(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(text(&letters[0].message), "poison");
}
