//! A TCP proxy between a client and its server, and what a network does on a bad day: [`Proxy`].

mod connection;
mod link;
mod loss;
mod pump;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use self::link::{Control, Flow};
pub use self::loss::Lost;
use crate::{Error, Result, url};

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A proxy that carries bytes between clients and one server, unless told otherwise.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sagamill_testkit::Proxy;
/// use tokio::{io::AsyncReadExt as _, net::{TcpListener, TcpStream}};
///
/// let server = TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = Proxy::start(&server.local_addr()?.to_string()).await?;
/// let mut client = TcpStream::connect(proxy.address()).await?;
/// let _accepted = server.accept().await?;
/// proxy.cut();
/// assert!(client.read_u8().await.is_err());
/// # Ok(())
/// # }
/// ```
///
/// It ends with this value, and its connections with it.
pub struct Proxy {
    target: String,
    address: SocketAddr,
    control: Arc<Control>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on the loopback address for connections to a server: `host:port`, or a URL that has them.
    ///
    /// # Errors
    ///
    /// [`Error::Proxy`] where the target names no port, or nothing can be listened on.
    pub async fn start(target: &str) -> Result<Self> {
        Self::start_on(0, target).await
    }
    /// The same on a port that others know already.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_on(port: u16, target: &str) -> Result<Self> {
        let server = server_of(target)?;
        let failed = |why: String| Error::Proxy {
            server: server.clone(),
            why,
        };
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listening.map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let control = Arc::new(Control::new(server.clone()));
        let task = tokio::spawn(accept(listener, control.clone()));
        Ok(Self {
            target: target.to_owned(),
            address,
            control,
            task,
        })
    }
    /// Leads new connections to another server, as an address does that moves to a promoted standby. Those that are there
    /// stay as they are: [`cut`](Self::cut) them before, and [`heal`](Self::heal) afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::Proxy`] where the target names no port.
    pub fn lead_to(&self, target: &str) -> Result<()> {
        self.control.lead_to(server_of(target)?);
        Ok(())
    }
    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// The target as it was given, with this proxy's address in place of the server's.
    #[must_use]
    pub fn url(&self) -> String {
        url::with_host(&self.target, &self.address.to_string())
    }
    /// Connections that clients hold open. A fault that finds none proves nothing.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.connections()
    }

    /// Cuts the line: both ends of each connection are reset, and so is each new one, until [`heal`](Self::heal).
    pub fn cut(&self) {
        self.control.change(|link| {
            link.flow = Flow::Cut;
            link.cuts += 1;
        });
    }
    /// Lets bytes stand still in both directions: connections stay open, new ones are taken, and nothing arrives, until
    /// [`heal`](Self::heal). Nothing is lost.
    pub fn stall(&self) {
        self.control.change(|link| link.flow = Flow::Stalled);
    }
    /// Carries bytes again, at once.
    pub fn heal(&self) {
        self.control.change(|link| {
            link.flow = Flow::Open;
            link.delay = Duration::ZERO;
        });
    }
    /// Carries each byte this much later, in each direction, in their order, until [`heal`](Self::heal).
    pub fn delay(&self, each_way: Duration) {
        self.control.change(|link| link.delay = each_way);
    }
    /// Makes a half-open connection of each: the server's end is reset, and the client is told nothing, ever. New
    /// connections are as usual. It shows whether a client has time limits of its own.
    pub fn half_open(&self) {
        self.control.change(|link| link.half_opens += 1);
    }
    /// Loses the answer to the next request on any connection: the server has done what it was asked for, and the client is
    /// cut off without learning of it.
    ///
    /// A request is what a client sends, its answer the first bytes that come back after that. Where a client sends a
    /// question ahead of its request, such as to prepare a statement, let it do so before.
    pub fn lose_next_answer(&self) -> Lost {
        self.lose_answer_to(b"")
    }
    /// Loses the answer to the next request that has these bytes in it, such as `COMMIT`.
    ///
    /// # Panics
    ///
    /// With more than 1 KiB, or where 64 answers are waiting to be lost.
    pub fn lose_answer_to(&self, request: impl AsRef<[u8]>) -> Lost {
        self.control.lose(request.as_ref())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Proxy");
        shown
            .field("address", &self.address)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The `host:port` of a target.
fn server_of(target: &str) -> Result<String> {
    let server = url::host(target).to_owned();
    if server.contains(':') {
        return Ok(server);
    }
    let why = "it names no port".to_owned();
    Err(Error::Proxy { server, why })
}

/// Takes connections until it is aborted, which ends them.
async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((client, _)) => {
                    connections.spawn(carry(client, control.clone()));
                }
                // The client has gone again, or the system has no file descriptor for one more.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, control: Arc<Control>) {
    let _counted = control.count();
    connection::carry(client, &control).await;
}
