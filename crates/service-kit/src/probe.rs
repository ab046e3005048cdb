//! Whether a process on this host is ready, asked of it over HTTP: the health check of a container that has no shell.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of an answer that are shown.
const SHOWN: u64 = 4 << 10;

/// Asks the process that listens there for `/readyz`. An address that means all of the host's is asked on one of them.
///
/// # Errors
/// It cannot be reached, does not answer within two seconds, or is not ready: with its answer.
pub async fn ask_ready(listen: &str) -> io::Result<()> {
    let answer = timeout(PATIENCE, ask(listen)).await??;
    let status = answer.split_whitespace().nth(1);
    if status == Some("200") {
        return Ok(());
    }
    Err(io::Error::other(format!("not ready: {}", answer.trim())))
}

async fn ask(listen: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(listen).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.0\r\nhost: localhost\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.take(SHOWN).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::Health;

    async fn ask_one(draining: CancellationToken) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let routes = Health::new(draining).routes();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        let answer = ask_ready(&address).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn ready_is_told_from_not_ready_and_from_nobody() {
        assert!(ask_one(CancellationToken::new()).await.is_ok());
        let draining = CancellationToken::new();
        draining.cancel();
        let error = ask_one(draining).await.unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
        assert!(error.to_string().contains("is draining"), "{error}");
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = ask_ready(&nobody.to_string()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
