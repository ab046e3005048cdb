//! The edge, over a real socket: what is refused, how, and that it starts nothing.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::sync::Arc;

use reqwest::{Client, Response, StatusCode, header};
use sagamill::bus::Bus;
use sagamill_service_kit::{Frontdoor, Health, Intake, Metrics, Shutdown, serve};
use serde_json::{Value, json};
use shop_contracts::{Answering, Book, CATALOGUE, PaymentBook, ShippingBook, StockBook, StockLevel};
use shop_frame::{Location, Service};
use shop_order::{Books, ITEMS_MAX, Orders};
use sqlx::Sqlite;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The other services, with full shelves and empty books.
#[derive(Debug)]
struct Others;

impl Book<Vec<StockLevel>> for Others {
    fn read(&self) -> Answering<'_, Vec<StockLevel>> {
        let level = |article: &shop_contracts::Article| StockLevel {
            sku: article.sku.into(),
            initial: article.stock.into(),
            available: article.stock.into(),
            held: 0,
        };
        Box::pin(async move { Ok(CATALOGUE.iter().map(level).collect()) })
    }
}
impl Book<StockBook> for Others {
    fn read(&self) -> Answering<'_, StockBook> {
        Box::pin(async {
            Ok(StockBook {
                stock: self.read().await?,
                reservations: Vec::new(),
            })
        })
    }
}
impl Book<PaymentBook> for Others {
    fn read(&self) -> Answering<'_, PaymentBook> {
        Box::pin(async { Ok(PaymentBook::default()) })
    }
}
impl Book<ShippingBook> for Others {
    fn read(&self) -> Answering<'_, ShippingBook> {
        Box::pin(async { Ok(ShippingBook::default()) })
    }
}

struct Shop {
    client: Client,
    address: std::net::SocketAddr,
    shutdown: Shutdown,
    _directory: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let others = Arc::new(Others);
        let books = Books {
            stock: others.clone(),
            inventory: others.clone(),
            payment: others.clone(),
            shipping: others,
        };
        let database = Location::File(directory.path().join("order.db"));
        let orders = Orders::<Sqlite>::open(&database, Bus::memory(), books).await.unwrap();
        let shutdown = Shutdown::new();
        let health = Health::new(shutdown.token().clone()).check("database", orders.check());
        let routes = orders.routes(Intake::new(shutdown.tasks().clone()));
        let routes = Frontdoor {
            health,
            metrics: Metrics::start().unwrap(),
        }
        .around(routes);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = shutdown.clone();
        shutdown
            .tasks()
            .spawn(async move { serve(listener, routes, &server).await });
        let client = Client::builder().no_proxy().build().unwrap();
        Self {
            client,
            address,
            shutdown,
            _directory: directory,
        }
    }
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }
    async fn post(&self, body: impl Into<reqwest::Body>) -> Response {
        let post = self
            .client
            .post(self.url("/orders"))
            .header(header::CONTENT_TYPE, "application/json");
        post.body(body).send().await.unwrap()
    }
    async fn place(&self, key: Option<&str>, body: &Value) -> Response {
        let mut post = self.client.post(self.url("/orders")).json(body);
        if let Some(key) = key {
            post = post.header("idempotency-key", key);
        }
        post.send().await.unwrap()
    }
    async fn orders(&self) -> Vec<Value> {
        self.get("/orders").await.json().await.unwrap()
    }
    async fn close(self) {
        self.shutdown.begin();
        self.shutdown.finished().await;
    }
}

async fn refused(response: Response, status: u16, kind: &str) {
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json",
        "{kind}"
    );
    assert_eq!(response.status().as_u16(), status, "{kind}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status, "{kind}");
    let kind = if kind == "about:blank" {
        kind.to_owned()
    } else {
        format!("urn:sagamill:problem:{kind}")
    };
    assert_eq!(problem["type"], kind, "{problem}");
}

fn order(sku: &str, quantity: &str) -> String {
    format!(r#"{{"customer":"ada","items":[{{"sku":"{sku}","quantity":{quantity}}}]}}"#)
}

#[tokio::test]
async fn what_cannot_be_an_order_is_refused_and_starts_nothing() {
    let shop = Shop::open().await;
    let many = vec![json!({ "sku": "mug", "quantity": 1 }); ITEMS_MAX + 1];
    let deep = format!(
        r#"{{"customer":"ada","items":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let table: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"".to_vec(), 400, "malformed-json"),
        (b"{".to_vec(), 400, "malformed-json"),
        (b"not json".to_vec(), 400, "malformed-json"),
        ((order("mug", "1") + "x").into(), 400, "malformed-json"),
        (deep.into(), 422, "invalid-content"),
        (b"{\"customer\":\"\xff\xfe\",\"items\":[]}".to_vec(), 400, "not-utf-8"),
        (b"null".to_vec(), 422, "invalid-content"),
        (b"[]".to_vec(), 422, "invalid-content"),
        (b"{}".to_vec(), 422, "invalid-content"),
        (br#"{"customer":"ada","items":{}}"#.to_vec(), 422, "invalid-content"),
        (
            br#"{"customer":"ada","items":[],"total":1}"#.to_vec(),
            422,
            "invalid-content",
        ),
        (
            br#"{"customer":"ada","customer":"bob","items":[]}"#.to_vec(),
            422,
            "invalid-content",
        ),
        (br#"{"customer":7,"items":[]}"#.to_vec(), 422, "invalid-content"),
        (order("mug", "0").into(), 422, "invalid-content"),
        (order("mug", "-1").into(), 422, "invalid-content"),
        (order("mug", "1.5").into(), 422, "invalid-content"),
        (order("mug", "1.0").into(), 422, "invalid-content"),
        (order("mug", "1001").into(), 422, "invalid-content"),
        (order("mug", "4294967297").into(), 422, "invalid-content"),
        (
            order("mug", "99999999999999999999999999").into(),
            422,
            "invalid-content",
        ),
        (order("mug", "\"1\"").into(), 422, "invalid-content"),
        (order("mug", "null").into(), 422, "invalid-content"),
        (order("anvil", "1").into(), 422, "unknown-sku"),
        (order("", "1").into(), 422, "unknown-sku"),
        (br#"{"customer":"ada","items":[]}"#.to_vec(), 422, "no-items"),
        (
            json!({ "customer": "ada", "items": many }).to_string().into(),
            422,
            "too-many-items",
        ),
        (
            json!({ "customer": " ", "items": many[..1] }).to_string().into(),
            422,
            "invalid-customer",
        ),
        (
            json!({ "customer": "a\u{0}", "items": many[..1] }).to_string().into(),
            422,
            "invalid-customer",
        ),
    ];
    for (body, status, kind) in table {
        refused(shop.post(body).await, status, kind).await;
    }
    // A number that JSON can write and no machine can hold is refused too, wherever the parser notices.
    let huge = shop.post(order("mug", "1e400")).await;
    assert!(huge.status().is_client_error());

    let split = json!({ "customer": "ada", "items": [
        { "sku": "mug", "quantity": 1_000 }, { "sku": "mug", "quantity": 1 },
    ]});
    refused(shop.place(None, &split).await, 422, "invalid-quantity").await;

    let text = shop
        .client
        .post(shop.url("/orders"))
        .header(header::CONTENT_TYPE, "text/plain");
    refused(text.body(order("mug", "1")).send().await.unwrap(), 415, "not-json").await;
    let untyped = shop
        .client
        .post(shop.url("/orders"))
        .body(order("mug", "1"))
        .send()
        .await
        .unwrap();
    refused(untyped, 415, "not-json").await;

    let good: Value = serde_json::from_str(&order("mug", "1")).unwrap();
    refused(shop.place(Some(&"k".repeat(256)), &good).await, 400, "idempotency-key").await;
    refused(shop.place(Some(""), &good).await, 400, "idempotency-key").await;

    assert_eq!(shop.orders().await, Vec::<Value>::new());
    shop.close().await;
}

#[tokio::test]
async fn body_of_ten_mebibytes_is_refused() {
    let shop = Shop::open().await;
    let body = vec![b' '; 10 * 1024 * 1024];
    refused(shop.post(body).await, 413, "body-too-large").await;
    assert_eq!(shop.orders().await, Vec::<Value>::new());
    shop.close().await;
}

#[tokio::test]
async fn body_that_turns_out_too_large_is_refused() {
    let shop = Shop::open().await;
    let mut socket = TcpStream::connect(shop.address).await.unwrap();
    let head =
        "POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    // Three chunks of a mebibyte, and never an end.
    for _ in 0..3 {
        socket.write_all(b"100000\r\n").await.unwrap();
        socket.write_all(&vec![b' '; 1024 * 1024]).await.unwrap();
        socket.write_all(b"\r\n").await.unwrap();
    }
    let mut start = [0; 12];
    socket.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    drop(socket);
    shop.close().await;
}

#[tokio::test]
async fn body_that_is_announced_too_large_is_refused_before_it_comes() {
    let shop = Shop::open().await;
    let mut socket = TcpStream::connect(shop.address).await.unwrap();
    let head =
        "POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: 10485760\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    socket.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    drop(socket);
    shop.close().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let shop = Shop::open().await;
    refused(shop.get("/nothing").await, 404, "about:blank").await;
    for id in [
        "order-1",
        "order-0",
        "order-x",
        "x",
        "%ff",
        "order-99999999999999999999",
    ] {
        refused(shop.get(&format!("/orders/{id}")).await, 404, "no-such-order").await;
    }
    let delete = shop.client.delete(shop.url("/orders")).send().await.unwrap();
    refused(delete, 405, "about:blank").await;
    for query in [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=x",
        "before=x",
        "status=lost",
        "page=1",
    ] {
        refused(shop.get(&format!("/orders?{query}")).await, 400, "invalid-query").await;
    }
    shop.close().await;
}

#[tokio::test]
async fn repeated_key_gets_the_first_answer_and_no_second_order() {
    let shop = Shop::open().await;
    let body: Value = serde_json::from_str(&order("mug", "2")).unwrap();
    let first = shop.place(Some("one"), &body).await;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert_eq!(first.headers()[header::LOCATION], "/orders/order-1");
    let first = first.text().await.unwrap();

    let again = shop.place(Some("one"), &body).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.headers()[header::LOCATION], "/orders/order-1");
    assert_eq!(again.text().await.unwrap(), first);

    let other: Value = serde_json::from_str(&order("mug", "3")).unwrap();
    refused(shop.place(Some("one"), &other).await, 422, "idempotency-key-reused").await;
    assert_eq!(shop.orders().await.len(), 1);

    // Without a key each is an order of its own.
    shop.place(None, &body).await;
    shop.place(None, &body).await;
    let ids: Vec<_> = shop.orders().await.iter().map(|order| order["id"].clone()).collect();
    assert_eq!(ids, ["order-3", "order-2", "order-1"]);
    shop.close().await;
}

#[tokio::test]
async fn requests_at_once_under_one_key_are_one_order() {
    let shop = Shop::open().await;
    let body: Value = serde_json::from_str(&order("mug", "2")).unwrap();
    let place = || async { shop.place(Some("one"), &body).await.text().await.unwrap() };
    let (a, b, c, d) = tokio::join!(place(), place(), place(), place());
    assert!(a == b && b == c && c == d, "{a} {b} {c} {d}");
    assert_eq!(shop.orders().await.len(), 1);
    shop.close().await;
}

#[tokio::test]
async fn order_is_pending_until_its_saga_has_ended() {
    let shop = Shop::open().await;
    let body =
        json!({ "customer": "ada", "items": [{ "sku": "mug", "quantity": 2 }, { "sku": "assam", "quantity": 1 }] });
    let placed: Value = shop.place(None, &body).await.json().await.unwrap();
    assert_eq!(
        (&placed["status"], &placed["total"]),
        (&json!("pending"), &json!(2 * 1_200 + 690))
    );
    let shown: Value = shop.get("/orders/order-1").await.json().await.unwrap();
    assert_eq!(shown["status"], "pending");
    assert_eq!(
        shown["items"],
        json!([{ "sku": "assam", "quantity": 1 }, { "sku": "mug", "quantity": 2 }])
    );
    let ledger: Value = shop.get("/ledger").await.json().await.unwrap();
    assert_eq!((&ledger["balanced"], &ledger["in_flight"]), (&json!(true), &json!(1)));
    shop.close().await;
}

#[tokio::test]
async fn list_is_read_page_by_page() {
    let shop = Shop::open().await;
    let body: Value = serde_json::from_str(&order("mug", "1")).unwrap();
    for _ in 0..3 {
        shop.place(None, &body).await;
    }
    let page = shop.get("/orders?limit=2").await;
    assert_eq!(
        page.headers()[header::LINK],
        "</orders?limit=2&before=order-2>; rel=\"next\""
    );
    let next: Vec<Value> = shop.get("/orders?limit=2&before=order-2").await.json().await.unwrap();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0]["id"], "order-1");
    let none: Vec<Value> = shop.get("/orders?status=completed").await.json().await.unwrap();
    assert!(none.is_empty());
    shop.close().await;
}

#[tokio::test]
async fn catalogue_has_price_and_stock() {
    let shop = Shop::open().await;
    let catalogue: Vec<Value> = shop.get("/catalog").await.json().await.unwrap();
    assert_eq!(catalogue.len(), CATALOGUE.len());
    let samovar = catalogue.iter().find(|item| item["sku"] == "samovar").unwrap();
    assert_eq!(samovar, &json!({ "sku": "samovar", "price": 18_900, "available": 0 }));
    shop.close().await;
}

#[tokio::test]
async fn process_says_how_it_is() {
    let shop = Shop::open().await;
    assert_eq!(shop.get("/livez").await.status(), StatusCode::OK);
    assert_eq!(
        shop.get("/readyz").await.json::<Value>().await.unwrap(),
        json!({ "ready": true, "failed": {} })
    );
    assert!(shop.get("/metrics").await.status().is_success());
    shop.close().await;
}
