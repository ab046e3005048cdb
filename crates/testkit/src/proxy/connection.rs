//! One connection: carried until it ends by itself, is cut, is made half-open, or loses an answer.

use std::sync::{Mutex, PoisonError};

use tokio::{net::TcpStream, sync::watch};

use super::{
    link::{Control, Flow, Link},
    loss::{Loss, REQUEST_BYTES_MAX},
    pump::{self, End},
};

/// Why a connection is not carried on.
enum Stop {
    Ended(End),
    Cut,
    HalfOpen,
}

/// Carries a client's connection to the server.
pub(super) async fn carry(mut client: TcpStream, control: &Control) {
    let mut link = control.watch();
    let born = *link.borrow_and_update();
    let Some(mut server) = connect(control, &mut link, born).await else {
        return reset(client);
    };
    // Small packets go when they come: what waits is for the test to say.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let stop = tokio::select! {
        stop = fault(&mut link, born) => stop,
        end = carry_both(&mut client, &mut server, control) => Stop::Ended(end),
    };
    match stop {
        Stop::Ended(End::Closed) => {}
        Stop::Ended(End::Broken) | Stop::Cut => {
            reset(server);
            reset(client);
        }
        Stop::HalfOpen => {
            reset(server);
            let _ = link.wait_for(|link| link.cuts != born.cuts).await;
            reset(client);
        }
    }
}

/// A connection to the server, as soon as bytes flow; none: it is cut, or the server takes none.
async fn connect(control: &Control, link: &mut watch::Receiver<Link>, born: Link) -> Option<TcpStream> {
    let flowing = link
        .wait_for(|link| link.flow != Flow::Stalled)
        .await
        .map(|link| *link)
        .ok()?;
    if flowing.flow == Flow::Cut || flowing.cuts != born.cuts {
        return None;
    }
    let server = control.server();
    tokio::select! {
        connected = TcpStream::connect(&server) => connected.ok(),
        _ = link.wait_for(|link| link.cuts != born.cuts) => None,
    }
}

/// Waits for what ends the carrying.
async fn fault(link: &mut watch::Receiver<Link>, born: Link) -> Stop {
    let is_over = |link: &Link| link.cuts != born.cuts || link.half_opens != born.half_opens;
    match link.wait_for(is_over).await {
        Ok(link) if link.cuts == born.cuts => Stop::HalfOpen,
        _ => Stop::Cut,
    }
}

/// Carries both directions until both have ended, or one has broken.
async fn carry_both(client: &mut TcpStream, server: &mut TcpStream, control: &Control) -> End {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let losing = Mutex::new(None);
    let lock = || losing.lock().unwrap_or_else(PoisonError::into_inner);
    let mut before = Vec::new();
    let requests = pump::carry(from_client, to_server, control.watch(), |bytes| {
        if let Some(loss) = control.take_loss(&before, bytes) {
            lock().get_or_insert(loss);
        }
        before.extend_from_slice(bytes);
        before.drain(..before.len().saturating_sub(REQUEST_BYTES_MAX));
        true
    });
    let answers = pump::carry(from_server, to_client, control.watch(), |_| {
        let lost: Option<Loss> = lock().take();
        lost.map(Loss::done).is_none()
    });
    let (mut requests, mut answers) = (std::pin::pin!(requests), std::pin::pin!(answers));
    tokio::select! {
        End::Broken = &mut requests => return End::Broken,
        End::Broken = &mut answers => return End::Broken,
        else => {}
    }
    End::Closed
}

/// Closes a connection as one that is lost: what is under way is lost with it.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}
