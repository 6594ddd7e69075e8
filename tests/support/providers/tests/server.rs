use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::providers::cal_com::{CalCom, KEY};
use crate::providers::server::{Served, serve};
use crate::providers::{Fake, Fault};

const LIST: &str = "GET /v2/oauth-clients";

/// For where no answer comes.
const MOMENT: Duration = Duration::from_millis(200);

async fn served() -> (Fake<CalCom>, Served) {
    let fake = Fake::new(CalCom::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (fake.clone(), serve(listener, fake))
}

/// Everything that comes back on a connection of its own.
async fn send(served: &Served, request: &str) -> String {
    let mut stream = TcpStream::connect(served.url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is cut may end with an error as well as without one.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

fn list(query: &str) -> String {
    format!("{LIST}{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\r\n")
}

#[tokio::test]
async fn a_provider_is_served_as_it_is() {
    let (fake, served) = served().await;
    let body = r#"{"name":"n","redirectUris":[],"permissions":[]}"#;
    let create = format!(
        "POST /v2/oauth-clients HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = send(&served, &create).await;
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("clientSecret"), "{answer}");
    assert!(send(&served, &list("")).await.contains("x-ratelimit-remaining-default: 118"), "its own headers");
    fake.assert_contract_held();

    send(&served, &list("?a%5Bb%5D=c+d")).await;
    let told = fake.take_violations().concat();
    assert!(told.contains("query parameter a[b] is not described"), "a query is decoded: {told}");
}

#[tokio::test]
async fn a_reply_that_is_lost_cuts_the_connection() {
    let (fake, served) = served().await;
    for fault in [Fault::Lost, Fault::ReplyLost] {
        fake.disturb(LIST, fault);
        assert_eq!(send(&served, &list("")).await, "", "{fault:?}: not a byte");
    }
    assert!(send(&served, &list("")).await.starts_with("HTTP/1.1 200 "), "the next one is not affected");
    assert_eq!(fake.count(LIST), 3);
}

#[tokio::test]
async fn a_provider_that_hangs_takes_requests_and_answers_none() {
    let (fake, served) = served().await;
    served.hang(true);
    assert!(timeout(MOMENT, send(&served, &list(""))).await.is_err());
    served.hang(false);
    assert!(send(&served, &list("")).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(fake.count(LIST), 1, "what was never answered had no effect");
}

#[tokio::test]
async fn nothing_is_served_when_it_is_dropped() {
    let (fake, served) = served().await;
    let address = served.url().strip_prefix("http://").unwrap().to_owned();
    let mut kept = TcpStream::connect(&address).await.unwrap();
    let mut first = [0; 12];
    kept.write_all(list("").replace("Connection: close\r\n", "").as_bytes()).await.unwrap();
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(served);
    drop(kept.write_all(list("").as_bytes()).await);
    let mut rest = Vec::new();
    drop(kept.read_to_end(&mut rest).await);
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "nor on a connection that was there");
    assert_eq!(fake.count(LIST), 1);
}
