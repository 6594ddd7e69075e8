//! A provider behind a socket, for what knows it by its URL only.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::connect_info::{ConnectInfo, Connected},
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::{Fake, Provider, Reply, Request};

/// More than any request has to say.
const LONGEST: usize = 1 << 20;

/// A provider that is being served. It ends when this is dropped, and no request is answered from then on.
pub struct Served {
    url: String,
    hangs: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Served {
    /// Where it is, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Requests that come while it hangs are taken, have no effect and are never answered.
    pub fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves a provider on HTTP/1.1 without TLS.
pub fn serve<P: Provider>(listener: TcpListener, fake: Fake<P>) -> Served {
    serve_beside(listener, Router::new(), fake)
}

/// The same beside routes that are not the provider's.
pub fn serve_beside<P: Provider>(listener: TcpListener, routes: Router, fake: Fake<P>) -> Served {
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (hangs, watched) = watch::channel(false);
    let handler = move |ConnectInfo(wire): ConnectInfo<Wire>, request| {
        exchange(fake.clone(), watched.clone(), wire, request)
    };
    let service = routes.fallback(handler).into_make_service_with_connect_info::<Wire>();
    let accepting = tokio::spawn(async move {
        axum::serve(Wires(listener), service).await.expect("serving never ends");
    });
    Served { url, hangs, accepting }
}

async fn exchange<P: Provider>(
    fake: Fake<P>,
    mut hangs: watch::Receiver<bool>,
    wire: Wire,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let request = read(request).await;
    let hanging = *hangs.borrow();
    while hanging && hangs.changed().await.is_ok() {}
    let stopped = hangs.has_changed().is_err();
    let reply = request.filter(|_| !stopped).and_then(|request| fake.exchange(&request));
    reply.map_or_else(|| wire.cut(), written)
}

/// `None` if the request does not arrive whole.
async fn read(request: http::Request<Body>) -> Option<Request> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    Some(Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: head.headers,
        body: to_bytes(body, LONGEST).await.ok()?,
    })
}

fn written(reply: Reply) -> http::Response<Body> {
    let mut response = http::Response::new(Body::from(reply.body));
    (*response.status_mut(), *response.headers_mut()) = (reply.status, reply.headers);
    response
}

/// One connection's own end, so that a handler can make it break: axum answers everything else it is given.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<AtomicBool>);

impl Wire {
    /// Nothing of the response that this returns will be sent.
    fn cut(&self) -> http::Response<Body> {
        self.0.store(true, Ordering::Relaxed);
        http::Response::default()
    }
}

impl Connected<IncomingStream<'_, Wires>> for Wire {
    fn connect_info(stream: IncomingStream<'_, Wires>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Listens for connections that can be cut.
struct Wires(TcpListener);

impl Listener for Wires {
    type Io = Connection;
    type Addr = Wire;

    async fn accept(&mut self) -> (Connection, Wire) {
        let (stream, _) = Listener::accept(&mut self.0).await;
        let wire = Wire::default();
        (Connection { stream, wire: wire.clone() }, wire)
    }

    fn local_addr(&self) -> io::Result<Wire> {
        Ok(Wire::default())
    }
}

struct Connection {
    stream: TcpStream,
    wire: Wire,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.wire.0.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
