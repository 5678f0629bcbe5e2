//! A wire to a server that can be cut without either end hearing of it.

use std::net::SocketAddr;
use std::pin::pin;
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::Line;
use crate::edge_proxy::make_noise;

/// Passes bytes on to a server, for as long as the line is good. It runs on a thread of its own until
/// it is dropped.
pub struct Wire {
    address: SocketAddr,
    line: watch::Sender<Line>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// A good one, to this server.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let line = watch::Sender::new(Line::Good);
        let (stop, stopped) = oneshot::channel();
        let of_thread = line.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = pass_on(listener, server, of_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, line, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections are like this. Those that there are die without a word, even if
    /// the line was good and is again.
    pub fn line(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn pass_on(listener: TcpListener, server: SocketAddr, line: watch::Sender<Line>) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut line = line.subscribe();
        tokio::spawn(async move {
            let at_first = *line.borrow_and_update();
            match at_first {
                Line::Good => {}
                Line::Dead => std::future::pending().await,
                Line::Noise => return make_noise(near).await,
            }
            let Ok(mut far) = TcpStream::connect(server).await else { return };
            let mut pass = pin!(tokio::io::copy_bidirectional(&mut near, &mut far));
            tokio::select! {
                _ = &mut pass => {}
                // Nobody looks at the connection any more, and nobody closes it.
                _ = line.changed() => std::future::pending().await,
            }
        });
    }
}
