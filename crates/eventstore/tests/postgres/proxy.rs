//! A line to the server that can be cut, at any place.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinSet,
};

/// What happens to what comes over the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// What the server says does not arrive; with its first word the line is cut.
    CutAtTheAnswer,
    /// All lines that are there are cut, and new ones are not taken.
    Down,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// In front of the server that this URL names.
    pub(crate) async fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = host(url).to_owned();
        let this = Self {
            address: listener.local_addr().unwrap(),
            line: watch::Sender::new(Line::Open),
            tasks: Arc::default(),
        };
        let (line, tasks) = (this.line.clone(), this.tasks.clone());
        this.tasks.lock().unwrap().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *line.borrow() == Line::Down {
                    continue;
                }
                let server = TcpStream::connect(&server).await.unwrap();
                tasks
                    .lock()
                    .unwrap()
                    .spawn(join(client, server, line.subscribe(), line.clone()));
            }
        });
        this
    }
    /// The URL through it.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replace(host(url), &self.address.to_string())
    }
    /// The next answer of the server does not arrive: what was asked for is done, and nobody is told.
    pub(crate) fn cut_at_the_next_answer(&self) {
        self.line.send_replace(Line::CutAtTheAnswer);
    }
    pub(crate) fn down(&self) {
        self.line.send_replace(Line::Down);
    }
    pub(crate) fn up(&self) {
        self.line.send_replace(Line::Open);
    }
}

fn host(url: &str) -> &str {
    let (_, rest) = url.split_once("://").expect("a URL");
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    rest.split('/').next().expect("a host")
}

async fn join(client: TcpStream, server: TcpStream, mut line: watch::Receiver<Line>, cut: watch::Sender<Line>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    line.mark_unchanged();
    tokio::select! {
        () = pass(from_client, to_server, None) => (),
        () = pass(from_server, to_client, Some(cut)) => (),
        () = async {
            while line.changed().await.is_ok() {
                if *line.borrow_and_update() == Line::Down {
                    return;
                }
            }
        } => (),
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: Option<watch::Sender<Line>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if cut.as_ref().is_some_and(|line| *line.borrow() == Line::CutAtTheAnswer) {
            return cut.into_iter().for_each(|line| _ = line.send_replace(Line::Open));
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
