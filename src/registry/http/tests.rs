//! The transport against a server on loopback that writes its replies by hand, so also those that no library would write.

use std::sync::Mutex;

use http::{Method, StatusCode, header::LOCATION};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};
use url::Url;

use super::*;

/// Long enough for a busy machine where an answer comes.
const PATIENCE: Duration = Duration::from_secs(20);
/// For where none comes.
const TIMEOUT: Duration = Duration::from_secs(2);
const CAP: usize = 64;

/// What a server does when it has read a request.
#[derive(Clone, Copy)]
enum Then {
    /// Writes this and closes.
    Close(&'static [u8]),
    /// Writes this and waits for the next request.
    Stay(&'static [u8]),
    /// Writes this and nothing more, but does not close.
    Hang(&'static [u8]),
    /// Writes this again and again, slowly.
    Drip(&'static [u8]),
}

/// A server that treats every request the same and remembers them, with the number of the connection that they came on.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Server {
    async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, then, number, Arc::clone(&log)));
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<(usize, String)> {
        self.requests.lock().unwrap().clone()
    }

    fn get(&self) -> Request {
        request(Method::GET, &format!("{}/x?key=c4n4ry", self.url))
    }
}

async fn serve(mut stream: TcpStream, then: Then, number: usize, log: Arc<Mutex<Vec<(usize, String)>>>) {
    while let Some(request) = read_request(&mut stream).await {
        log.lock().unwrap().push((number, request));
        let (Then::Close(bytes) | Then::Stay(bytes) | Then::Hang(bytes) | Then::Drip(bytes)) = then;
        // The client may be gone, which is what some tests are about.
        drop(stream.write_all(bytes).await);
        match then {
            Then::Close(_) => return,
            Then::Stay(_) => {}
            Then::Hang(_) => std::future::pending().await,
            Then::Drip(_) => {
                while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                    tokio::time::sleep(TIMEOUT / 20).await;
                }
            }
        }
    }
}

/// Head and body of a request, `None` at the end.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(read) if read > 0 => {}
            _ => return None,
        }
    }
}

fn route() -> Route {
    Route { limits: Limits { timeout: PATIENCE, body: CAP }, ca_bundle: None, proxy_url: None }
}

fn connect(route: &Route) -> Result<Arc<dyn Transport>, String> {
    // Another test may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    HttpConnect { addresses: AddressPolicy::new("127.0.0.0/8,::1".parse().unwrap(), []) }.connect(route)
}

fn transport() -> Arc<dyn Transport> {
    connect(&route()).unwrap()
}

/// One that gives up soon.
fn hasty() -> Arc<dyn Transport> {
    connect(&Route { limits: Limits { timeout: TIMEOUT, body: CAP }, ..route() }).unwrap()
}

fn request(method: Method, url: &str) -> Request {
    Request { method, url: Url::parse(url).unwrap(), authorization: Authorization::None, body: Body::Empty }
}

/// The status and body of a reply, or whether the request left.
fn seen(outcome: Result<Response, TransportError>) -> Result<(u16, Bytes), &'static str> {
    match outcome {
        Ok(reply) => Ok((reply.status.as_u16(), reply.body)),
        Err(error) => {
            assert!(
                !error.to_string().contains("c4n4ry"),
                "the URL's query may hold what is not for logs: {error}"
            );
            match error {
                TransportError::NotAllowed(_) => Err("not allowed"),
                TransportError::NotSent(_) => Err("not sent"),
                TransportError::Interrupted(_) => Err("interrupted"),
            }
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_as_given_and_with_nothing_that_was_not_asked_for() {
    let basic = |user: &str, password: &str| Authorization::Basic(user.into(), password.into());
    let rows = [
        (Authorization::None, Body::Empty, vec!["accept: application/json"], "", "nothing but what it wants"),
        (
            Authorization::Bearer("t0k.en-_~+/=".into()),
            Body::Json(Bytes::from_static(b"{\"a\":\"\xc3\xa9\"}")),
            vec!["authorization: Bearer t0k.en-_~+/=", "content-type: application/json"],
            "{\"a\":\"é\"}",
            "RFC 6750 section 2.1",
        ),
        (
            basic("id%3A1", "p%2Fw"),
            Body::Form(Bytes::from_static(b"grant_type=client_credentials")),
            vec!["authorization: Basic aWQlM0ExOnAlMkZ3", "content-type: application/x-www-form-urlencoded"],
            "grant_type=client_credentials",
            "RFC 7617, of what was encoded before",
        ),
        (basic("id", ""), Body::Empty, vec!["authorization: Basic aWQ6"], "", "an empty password is one"),
    ];
    for (authorization, body, expected, sent, reason) in rows {
        let server = Server::start(Then::Close(b"HTTP/1.1 204 No Content\r\n\r\n")).await;
        let request =
            Request { authorization, body, ..request(Method::PUT, &format!("{}/a%2Fb?c=%20d", server.url)) };
        assert_eq!(seen(transport().send(request).await), Ok((204, Bytes::new())), "{reason}");
        let (_, text) = server.requests().remove(0);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines: Vec<&str> = head.lines().collect();
        assert_eq!(lines.remove(0), "PUT /a%2Fb?c=%20d HTTP/1.1", "verbatim: {reason}");
        for line in expected {
            assert!(lines.contains(&line), "{line}: {reason}: {head}");
        }
        assert_eq!(body, sent, "{reason}");
        let names: Vec<&str> = lines.iter().filter_map(|line| line.split(':').next()).collect();
        let known = ["accept", "authorization", "content-length", "content-type", "host", "user-agent"];
        let unknown: Vec<_> = names.iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "no accept-encoding, no cookie, no referer: {unknown:?}: {reason}");
        assert!(names.iter().filter(|name| **name == "authorization").count() <= 1, "{reason}");
    }
}

#[tokio::test]
async fn a_reply_is_a_reply_whatever_its_status_and_encoding() {
    let zipped: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00";
    let full: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n\
        0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let rows: [(&'static [u8], u16, &[u8], &str); 6] = [
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno", 500, b"no", "an error of the server"),
        (
            b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\n\r\n",
            401,
            b"",
            "no second attempt with credentials",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            200,
            b"hi",
            "in chunks",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end", "its end is the connection's"),
        (zipped, 200, b"\x1f\x8b\x08\x00", "nobody asked for compression: a small bomb stays small"),
        (full, 200, &full[full.len() - CAP..], "as large as it may be"),
    ];
    for (reply, status, body, reason) in rows {
        let server = Server::start(Then::Close(reply)).await;
        let outcome = transport().send(server.get()).await;
        assert_eq!(seen(outcome), Ok((status, Bytes::copy_from_slice(body))), "{reason}");
        assert_eq!(server.requests().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for reply in [
        &b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::start(Then::Stay(reply)).await;
        let reply =
            transport().send(server.get()).await.map_err(|e| e.to_string()).unwrap_or_else(|e| panic!("{e}"));
        assert!(matches!(reply.status, StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT));
        assert_eq!(reply.headers[LOCATION], "/elsewhere", "the driver judges it");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn every_request_has_a_connection_of_its_own() {
    let server = Server::start(Then::Stay(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")).await;
    let transport = transport();
    for _ in 0..3 {
        assert!(seen(transport.send(server.get()).await).is_ok());
    }
    let connections: Vec<usize> = server.requests().into_iter().map(|(number, _)| number).collect();
    assert_eq!(connections, [0, 1, 2], "one that the server has just closed makes a registration unknown");
}

#[tokio::test]
async fn a_reply_that_does_not_arrive_whole_leaves_the_outcome_open() {
    let rows = [
        (Then::Close(b""), "closed without a word"),
        (Then::Close(b"HTTP/1.1 201 Cre"), "closed in the status line"),
        (Then::Close(b"HTTP/1.1 201 Created\r\nContent-Type: app"), "closed in the headers"),
        (Then::Close(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{\"clie"), "closed in the body"),
        (Then::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell"), "closed in a chunk"),
        (
            Then::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"),
            "closed between chunks",
        ),
        (Then::Close(b"SSH-2.0-OpenSSH_9.2\r\n"), "no HTTP"),
        (
            Then::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
            "which length?",
        ),
        (
            Then::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
            "it says that it is larger than the cap",
        ),
        (
            Then::Close(
                b"HTTP/1.1 200 OK\r\n\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefX",
            ),
            "one byte more than the cap",
        ),
        (
            Then::Drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "no end: time or the cap ends it",
        ),
        (Then::Hang(b""), "no reply in time"),
        (Then::Hang(b"HTTP/1.1 201 Created\r\n"), "no headers in time"),
        (Then::Hang(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"), "no body in time"),
    ];
    let began = Instant::now();
    let checks = rows.map(async |(then, reason)| {
        let server = Server::start(then).await;
        // A busy machine takes long to send; only who waits in vain has to be hasty.
        let transport = if matches!(then, Then::Close(_)) { transport() } else { hasty() };
        let outcome = transport.send(Request { method: Method::POST, ..server.get() }).await;
        assert_eq!(seen(outcome), Err("interrupted"), "{reason}");
        assert_eq!(server.requests().len(), 1, "sent once: {reason}");
    });
    futures::future::join_all(checks).await;
    assert!(began.elapsed() < TIMEOUT * 3, "in time: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_that_never_left_is_said_to_have_had_no_effect() {
    // A port that is taken, so that no other test comes to listen there.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = format!("http://{}/", silent.local_addr().unwrap());
    let plain = Server::start(Then::Close(b"")).await;
    let bearer = |token: &str| Request {
        authorization: Authorization::Bearer(token.into()),
        ..request(Method::POST, &plain.url)
    };
    let rows = [
        (request(Method::POST, &refused), "nobody listens"),
        (request(Method::POST, "http://no-such-host.invalid/"), "the name is unknown"),
        (request(Method::POST, &plain.url.replace("http:", "https:")), "no TLS there: the handshake failed"),
        (request(Method::POST, "ftp://127.0.0.1/"), "no HTTP"),
        (bearer("c4n4ry\r\nx-evil: 1"), "a token with a line break"),
    ];
    for (request, reason) in rows {
        assert_eq!(seen(hasty().send(request).await), Err("not sent"), "{reason}");
    }
    assert_eq!(plain.requests(), [], "and nothing was");
}

/// A listener whose queue is full: whoever connects waits, as behind a firewall that drops packets.
#[tokio::test]
async fn a_connection_that_does_not_come_up_in_time_has_sent_nothing() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let attempt = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
        let Ok(stream) = attempt.await else { break };
        waiting.push(stream.unwrap());
    }
    let began = Instant::now();
    let outcome = hasty().send(request(Method::POST, &format!("http://{address}/"))).await;
    assert_eq!(seen(outcome), Err("not sent"), "a registration would else be unknown");
    assert!(began.elapsed() <= TIMEOUT * 2, "in time: {:?}", began.elapsed());
}

#[tokio::test]
async fn requests_go_through_the_proxy_that_is_given() {
    let proxy = Server::start(Then::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")).await;
    let transport = connect(&Route { proxy_url: Some(proxy.url.clone()), ..route() }).unwrap();
    let outcome = transport.send(request(Method::GET, "http://as.example/x")).await;
    assert_eq!(seen(outcome), Ok((200, Bytes::from_static(b"{}"))));
    assert!(proxy.requests()[0].1.starts_with("GET http://as.example/x HTTP/1.1"));

    let refusing = Server::start(Then::Close(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")).await;
    let transport = connect(&Route { proxy_url: Some(refusing.url.clone()), ..route() }).unwrap();
    let outcome = transport.send(request(Method::POST, "https://as.example/x")).await;
    assert_eq!(seen(outcome), Err("not sent"), "the tunnel was not made");
    assert!(refusing.requests()[0].1.starts_with("CONNECT as.example:443 HTTP/1.1"));
}

#[test]
fn a_route_that_cannot_be_used_is_refused_and_says_which_part() {
    let certificate = |text: &str| Route { ca_bundle: Some(text.into()), ..route() };
    let proxy = |text: &str| Route { proxy_url: Some(text.into()), ..route() };
    let rows = [
        (
            certificate("c4n4ry"),
            "tls.caBundle",
            "no PEM: else it would be no trust, and nobody would know why",
        ),
        (certificate("-----BEGIN CERTIFICATE-----\nc4n4ry"), "tls.caBundle", "no end"),
        (
            certificate("-----BEGIN CERTIFICATE-----\nYzRuNHJ5\n-----END CERTIFICATE-----\n"),
            "tls.caBundle",
            "PEM of something else",
        ),
        (
            certificate("-----BEGIN PUBLIC KEY-----\nYzRuNHJ5\n-----END PUBLIC KEY-----\n"),
            "tls.caBundle",
            "no certificate in it",
        ),
        (proxy(""), "proxyUrl", "nothing"),
        (proxy("http://"), "proxyUrl", "no host"),
        (proxy("http://a b/"), "proxyUrl", "no URL"),
    ];
    for (route, expected, reason) in rows {
        let why = connect(&route).err().expect(reason);
        assert!(why.starts_with(expected), "{reason}: {why}");
        assert!(!why.contains("c4n4ry") && !why.contains("YzRuNHJ5"), "{reason}: {why}");
    }
}
