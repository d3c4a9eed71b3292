//! The front door without a network: headers, encodings, bad input.

use std::io::{Read, Write};

use actix_web::body::to_bytes;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, init_service};
use actix_web::web;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};

use super::{App, handle};
use crate::access::Policies;
use crate::admission::Admission;
use crate::auth::Keys;
use crate::fake::Fake;
use crate::settings::RouterSettings;

struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn error(&self) -> String {
        self.json()["__type"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

fn settings() -> RouterSettings {
    RouterSettings {
        accept_any_key: true,
        gzip_bytes_min: 1000,
        ..RouterSettings::default()
    }
}

async fn send_to(settings: &RouterSettings, admission: &Admission, request: TestRequest) -> Answer {
    let keys = Keys::load(settings).unwrap();
    let app = web::Data::new(App::new(
        settings,
        keys,
        Policies::default(),
        admission.clone(),
        Fake::new(),
        Default::default(),
    ));
    let service = init_service(
        actix_web::App::new()
            .app_data(app)
            .default_service(web::to(handle::<Fake>)),
    )
    .await;
    let response: ServiceResponse = service.call(request.to_request()).await.unwrap();
    let status = response.status();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = to_bytes(response.into_body()).await.ok().unwrap().to_vec();
    let answer = Answer {
        status,
        headers,
        body,
    };
    assert_eq!(answer.header("x-amzn-requestid").len(), 52);
    assert_eq!(
        answer.header("x-amz-crc32"),
        crc32fast::hash(&answer.body).to_string()
    );
    answer
}

async fn send(request: TestRequest) -> Answer {
    let settings = settings();
    send_to(&settings, &Admission::new(10, 1 << 30), request).await
}

fn post(operation: &str, body: impl Into<web::Bytes>) -> TestRequest {
    TestRequest::post()
        .uri("/")
        .insert_header(("host", "db:8000"))
        .insert_header(("content-type", "application/x-amz-json-1.0"))
        .insert_header(("x-amz-target", format!("DynamoDB_20120810.{operation}")))
        .insert_header((
            "authorization",
            "AWS4-HMAC-SHA256 Credential=me/1/r/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
        ))
        .set_payload(body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[actix_web::test]
async fn get_says_healthy() {
    let answer = send(
        TestRequest::get()
            .uri("/")
            .insert_header(("host", "db:8000")),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, b"healthy: db:8000 ");
}

#[actix_web::test]
async fn an_item_comes_back_through_http() {
    let answer = send(post(
        "PutItem",
        r#"{"TableName":"hash","Item":{"pk":{"S":"a"}}}"#,
    ))
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, b"{}");
    assert_eq!(answer.header("content-type"), "application/x-amz-json-1.0");
}

#[actix_web::test]
async fn errors_have_a_namespaced_type_and_a_message() {
    let answer = send(post(
        "GetItem",
        r#"{"TableName":"none","Key":{"pk":{"S":"a"}}}"#,
    ))
    .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.json(),
        json!({
            "__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
            "message": "Requested resource not found",
        })
    );
}

#[actix_web::test]
async fn what_is_no_api_call_is_answered_as_by_dynamodb() {
    for request in [
        TestRequest::put().uri("/"),
        TestRequest::post().uri("/"),
        post("GetItem", "{}").insert_header(("content-type", "text/plain")),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.body, b"<UnknownOperationException/>\n");
    }
    for name in ["Nonsense", "getItem", ""] {
        let answer = send(post(name, "{}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            answer.json(),
            json!({"__type": "com.amazon.coral.service#UnknownOperationException"})
        );
    }
}

#[actix_web::test]
async fn bad_json_of_every_kind_is_a_serialization_exception() {
    let deep = format!(
        "{{\"TableName\":\"hash\",\"Unknown\":{}",
        "[".repeat(1_000_000)
    );
    let deep_value = format!(
        "{{\"TableName\":\"hash\",\"Item\":{{\"pk\":{}",
        "{\"L\":[".repeat(100_000)
    );
    let deep_map = format!(
        "{{\"TableName\":\"hash\",\"Key\":{}",
        "{\"M\":".repeat(100_000)
    );
    for body in [
        &b""[..],
        b"{",
        b"nonsense",
        b"{\"TableName\":\"\xff\xfe\"}",
        b"{\"TableName\":\"a\"}}",
        b"[]",
        b"\"x\"",
        deep.as_bytes(),
        deep_value.as_bytes(),
        deep_map.as_bytes(),
    ] {
        for operation in ["PutItem", "GetItem"] {
            let answer = send(post(operation, body.to_vec())).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert_eq!(
                answer.error(),
                "com.amazon.coral.service#SerializationException",
                "{}",
                String::from_utf8_lossy(&body[..body.len().min(60)])
            );
        }
    }
}

#[actix_web::test]
async fn authentication_is_demanded() {
    let request = TestRequest::post()
        .insert_header(("content-type", "application/x-amz-json-1.0"))
        .insert_header(("x-amz-target", "DynamoDB_20120810.ListTables"))
        .set_payload("{}");
    let answer = send(request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.error(),
        "com.amazon.coral.service#MissingAuthenticationTokenException"
    );
    // and checked, when keys are configured
    let strict = RouterSettings {
        accept_any_key: false,
        ..settings()
    };
    let request = post("ListTables", "{}").insert_header(("x-amz-date", "20150830T123600Z"));
    let answer = send_to(&strict, &Admission::new(10, 1 << 30), request).await;
    assert_eq!(
        answer.error(),
        "com.amazon.coral.service#InvalidSignatureException"
    );
}

#[actix_web::test]
async fn the_control_plane_is_passed_on() {
    let answer = send(post("ListTables", r#"{"Limit":5}"#)).await;
    assert_eq!(
        answer.json(),
        json!({"Operation": "ListTables", "Principal": "me", "Body": {"Limit": 5}})
    );
    let answer = send(post("DescribeLimits", "{}")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let answer = send(post("DescribeEndpoints", "{}")).await;
    assert_eq!(
        answer.json(),
        json!({"Endpoints": [{"Address": "db:8000", "CachePeriodInMinutes": 1440}]})
    );
}

#[actix_web::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let body = format!("\"{}\"", "x".repeat(5000));
    for (accept, compressed) in [
        ("gzip", true),
        ("deflate, GZIP;q=0.5", true),
        ("identity", false),
        ("gzip;q=0", false),
    ] {
        let request = post("ListTables", body.clone()).insert_header(("accept-encoding", accept));
        let answer = send(request).await;
        assert_eq!(
            answer.header("content-encoding") == "gzip",
            compressed,
            "{accept}"
        );
        let mut text = String::new();
        if compressed {
            GzDecoder::new(&answer.body[..])
                .read_to_string(&mut text)
                .unwrap();
        } else {
            text = String::from_utf8(answer.body).unwrap();
        }
        assert!(text.contains(&body), "{accept}");
    }
    let request = post("ListTables", "{}").insert_header(("accept-encoding", "gzip"));
    assert_eq!(send(request).await.header("content-encoding"), "");
}

#[actix_web::test]
async fn compressed_requests_are_inflated_within_bounds() {
    let request =
        post("ListTables", gzip(b"{\"Limit\":7}")).insert_header(("content-encoding", "gzip"));
    assert_eq!(send(request).await.json()["Body"], json!({"Limit": 7}));
    let request = post("ListTables", "{}").insert_header(("content-encoding", "gzip"));
    assert_eq!(
        send(request).await.error(),
        "com.amazon.coral.service#SerializationException"
    );
    let bomb = gzip(&vec![b' '; 17 << 20]);
    let request = post("ListTables", bomb).insert_header(("content-encoding", "gzip"));
    assert_eq!(send(request).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[actix_web::test]
async fn bodies_over_16_mb_are_refused() {
    let answer = send(post("ListTables", vec![b' '; (16 << 20) + 1])).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.header("connection"), "close");
}

#[actix_web::test]
async fn what_does_not_fit_is_shed() {
    let settings = settings();
    let full = Admission::new(1, 1 << 20);
    let held = full.enter();
    assert!(held.is_some());
    let answer = send_to(&settings, &full, post("ListTables", "{}")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.error().ends_with("#ThrottlingException"),
        "{}",
        answer.error()
    );
    drop(held);
    let answer = send_to(&settings, &full, post("ListTables", vec![b' '; 2 << 20])).await;
    assert!(
        answer.error().ends_with("#ThrottlingException"),
        "{}",
        answer.error()
    );
    let answer = send_to(&settings, &full, post("ListTables", "{}")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(full.requests(), 0);
}

#[actix_web::test]
async fn a_draining_router_closes_connections() {
    let settings = settings();
    let admission = Admission::new(1, 1 << 20);
    admission.start_draining();
    let answer = send_to(&settings, &admission, post("ListTables", "{}")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("connection"), "close");
}
