//! A proxy does to bytes what it is told to, and nothing else.

#![cfg(feature = "proxy")]
#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sagamill_testkit::{Error, Proxy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is looked for what must not come.
const SILENCE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn bytes_are_carried_as_they_are_in_both_directions() {
    let (_server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    client.say("one").await;
    assert_eq!(client.hear(3).await, "one");
    client.say("two").await;
    assert_eq!(client.hear(3).await, "two");
}

#[tokio::test]
async fn an_end_in_one_direction_leaves_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).await.unwrap();
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).await.unwrap();
        connection
            .write_all(format!("{said}, and no more").as_bytes())
            .await
            .unwrap();
    });
    let mut client = Client::new(&proxy).await;
    client.say("this").await;
    client.0.shutdown().await.unwrap();
    let mut heard = String::new();
    timeout(PATIENCE, client.0.read_to_string(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, "this, and no more");
    server.await.unwrap();
}

#[tokio::test]
async fn a_cut_resets_connections_until_it_is_healed() {
    let (server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    client.say("x").await;
    client.hear(1).await;
    assert_eq!(proxy.connections(), 1);

    proxy.cut();
    assert_eq!(client.fails().await, ErrorKind::ConnectionReset);
    server.lost(1).await;
    let mut new = Client::new(&proxy).await;
    assert_eq!(new.fails().await, ErrorKind::ConnectionReset);

    proxy.heal();
    let mut healed = Client::new(&proxy).await;
    healed.say("y").await;
    assert_eq!(healed.hear(1).await, "y");
    assert_eq!(server.accepted(), 2, "nobody reached it while the line was cut");
}

#[tokio::test]
async fn a_cut_that_is_healed_at_once_was_a_cut() {
    let (_server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    client.say("x").await;
    client.hear(1).await;
    proxy.cut();
    proxy.heal();
    assert_eq!(client.fails().await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn stalled_bytes_arrive_when_the_line_is_healed() {
    let (server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    client.say("x").await;
    client.hear(1).await;

    proxy.stall();
    client.say("late").await;
    let mut new = Client::new(&proxy).await;
    new.say("new").await;
    client.is_silent().await;
    assert_eq!((server.heard(), server.accepted()), (1, 1));

    proxy.heal();
    assert_eq!(client.hear(4).await, "late");
    assert_eq!(new.hear(3).await, "new");
}

#[tokio::test]
async fn a_stalled_line_can_be_cut() {
    let (_server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    client.say("x").await;
    client.hear(1).await;
    proxy.stall();
    client.say("never").await;
    proxy.cut();
    assert_eq!(client.fails().await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_client_of_a_half_open_connection_learns_nothing() {
    let (server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    client.say("x").await;
    client.hear(1).await;

    proxy.half_open();
    server.lost(1).await;
    client.say("anybody there?").await;
    client.is_silent().await;
    assert_eq!(server.heard(), 1);
    let mut new = Client::new(&proxy).await;
    new.say("y").await;
    assert_eq!(new.hear(1).await, "y");

    proxy.cut();
    assert_eq!(client.fails().await, ErrorKind::ConnectionReset);
}

/// On virtual time, which moves on when everything waits: an hour each way is over at once, and measured exactly.
#[tokio::test(start_paused = true)]
async fn delayed_bytes_arrive_later_in_their_order() {
    let (_server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    client.say("x").await;
    client.hear(1).await;

    let hour = Duration::from_secs(3600);
    proxy.delay(hour);
    let begun = Instant::now();
    client.say("12").await;
    client.say("34").await;
    assert_eq!(client.hear_at_last(4).await, "1234");
    assert!(begun.elapsed() >= 2 * hour);

    proxy.heal();
    let begun = Instant::now();
    client.say("now").await;
    assert_eq!(client.hear_at_last(3).await, "now");
    assert!(begun.elapsed() < hour);
}

#[tokio::test]
async fn a_lost_answer_is_to_a_request_that_was_served() {
    let (server, proxy) = echo().await;
    let mut other = Client::new(&proxy).await;
    other.say("x").await;
    other.hear(1).await;
    let mut client = Client::new(&proxy).await;
    client.say("question").await;
    client.hear(8).await;

    let lost = proxy.lose_answer_to("COMMIT");
    client.say("another").await;
    assert_eq!(client.hear(7).await, "another");
    client.say("COMM").await;
    assert_eq!(client.hear(4).await, "COMM");
    client.say("IT").await;
    assert_eq!(client.fails().await, ErrorKind::ConnectionReset);
    assert!(timeout(PATIENCE, lost).await.unwrap());
    assert_eq!(server.heard(), 1 + 8 + 7 + 6, "the request arrived");

    other.say("COMMIT").await;
    assert_eq!(other.hear(6).await, "COMMIT", "one answer is lost, once");
}

#[tokio::test]
async fn the_next_answer_is_lost_whatever_was_asked() {
    let (server, proxy) = echo().await;
    let mut client = Client::new(&proxy).await;
    let lost = proxy.lose_next_answer();
    client.say("anything").await;
    assert_eq!(client.fails().await, ErrorKind::ConnectionReset);
    assert!(timeout(PATIENCE, lost).await.unwrap());
    assert_eq!(server.heard(), 8);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_lost_and_what_never_came_is_said() {
    let (_server, proxy) = echo().await;
    drop(proxy.lose_next_answer());
    let mut client = Client::new(&proxy).await;
    client.say("x").await;
    assert_eq!(client.hear(1).await, "x");

    let lost = proxy.lose_answer_to("never said");
    drop(proxy);
    assert!(!timeout(PATIENCE, lost).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_lost_or_swapped_by_a_line_that_comes_and_goes() {
    const BYTES: usize = 4 * 1024 * 1024;
    let (_server, proxy) = echo().await;
    let (mut from, mut to) = Client::new(&proxy).await.0.into_split();
    let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move { to.write_all(&sent).await.map(|()| to) });
    let hearing = tokio::spawn(async move {
        let mut heard = vec![0; BYTES];
        from.read_exact(&mut heard).await.map(|_| heard)
    });
    let mut rounds = 0;
    while !hearing.is_finished() {
        match rounds % 3 {
            0 => proxy.stall(),
            1 => proxy.delay(Duration::from_millis(2)),
            _ => proxy.heal(),
        }
        rounds += 1;
        sleep(Duration::from_millis(1)).await;
        proxy.heal();
        sleep(Duration::from_millis(1)).await;
    }
    let _to = sending.await.unwrap().unwrap();
    assert!(hearing.await.unwrap().unwrap() == expected, "after {rounds} rounds");
    assert!(rounds > 1);
}

#[tokio::test]
async fn a_server_that_takes_nothing_holds_its_client_up() {
    // More than the proxy and the system hold together.
    const BYTES_MAX: usize = 256 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).await.unwrap();
    let mut client = Client::new(&proxy).await.0;
    let _connection = listener.accept().await.unwrap();
    let chunk = vec![0; 64 * 1024];
    let mut sent = 0;
    while let Ok(written) = timeout(SILENCE, client.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent < BYTES_MAX, "the proxy keeps whatever it is given");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).await.unwrap();
    drop(listener);
    assert_eq!(Client::new(&proxy).await.fails().await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn its_url_is_the_servers_but_for_the_address() {
    let proxy = Proxy::start("postgres://me:secret@127.0.0.1:1/shop?sslmode=disable")
        .await
        .unwrap();
    let address = proxy.address();
    assert_eq!(
        proxy.url(),
        format!("postgres://me:secret@{address}/shop?sslmode=disable")
    );
    let error = Proxy::start("postgres://me:secret@server/shop").await.unwrap_err();
    assert!(
        matches!(&error, Error::Proxy { server, .. } if server == "server"),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn led_to_another_server_new_connections_go_there_and_the_others_stay() {
    let (first, proxy) = echo().await;
    let (second, other) = echo().await;
    let mut old = Client::new(&proxy).await;
    old.say("x").await;
    old.hear(1).await;

    // To that proxy's address, and by it to the second server.
    proxy.lead_to(&other.address().to_string()).unwrap();
    let mut new = Client::new(&proxy).await;
    new.say("y").await;
    assert_eq!(new.hear(1).await, "y");
    old.say("z").await;
    assert_eq!(old.hear(1).await, "z");
    assert_eq!((first.heard(), second.heard()), (2, 1));

    let error = proxy.lead_to("server").unwrap_err();
    assert!(
        matches!(&error, Error::Proxy { server, .. } if server == "server"),
        "{error}"
    );
}

/// A server that says what it hears.
struct Echo {
    accepted: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

async fn echo() -> (Echo, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).await.unwrap();
    let [accepted, heard, lost] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
    let echo = Echo {
        accepted: accepted.clone(),
        heard: heard.clone(),
        lost: lost.clone(),
    };
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            let (heard, lost) = (heard.clone(), lost.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = connection.read(&mut buffer).await {
                    heard.fetch_add(count, Ordering::SeqCst);
                    if connection.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
                lost.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (echo, proxy)
}

impl Echo {
    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
    /// Bytes.
    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
    /// Waits until so many connections have ended.
    async fn lost(&self, count: usize) {
        let lost = async {
            while self.lost.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, lost).await.unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    async fn new(proxy: &Proxy) -> Self {
        Self(TcpStream::connect(proxy.address()).await.unwrap())
    }
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }
    async fn hear(&mut self, bytes: usize) -> String {
        timeout(PATIENCE, self.hear_at_last(bytes)).await.unwrap()
    }
    /// Without a limit, which virtual time would reach while bytes are under way.
    async fn hear_at_last(&mut self, bytes: usize) -> String {
        let mut heard = vec![0; bytes];
        self.0.read_exact(&mut heard).await.unwrap();
        String::from_utf8(heard).unwrap()
    }
    async fn is_silent(&mut self) {
        assert!(timeout(SILENCE, self.0.read_u8()).await.is_err());
    }
    async fn fails(&mut self) -> ErrorKind {
        timeout(PATIENCE, self.0.read_u8()).await.unwrap().unwrap_err().kind()
    }
}
