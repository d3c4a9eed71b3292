//! Signatures made by another implementation (botocore), and every way in which a request can fail to show who sent it.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use model::{ApiError, ErrorKind};

use super::{Keys, Signed, authenticate};
use crate::settings::{AccessKey, RouterSettings, Secret};

/// 2015-08-30 12:36:00 UTC, when the requests below were signed.
const SIGNED_AT: i64 = 1_440_938_160;
const BODY: &[u8] = br#"{"TableName":"abc"}"#;
const CREDENTIAL: &str = "AKIDEXAMPLE/20150830/eu-west-1/dynamodb/aws4_request";
const SIGNED_HEADERS: &str = "content-type;host;x-amz-date;x-amz-note;x-amz-target";
const SIGNATURE: &str = "935b1499e3310f7f984bc008f30d4c2c97302d30acc61eef8988fd349eacb6ad";

fn keys(change: impl FnOnce(&mut RouterSettings)) -> Keys {
    let mut settings = RouterSettings {
        access_keys: vec![AccessKey {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
        }],
        ..RouterSettings::default()
    };
    change(&mut settings);
    Keys::load(&settings).unwrap()
}

fn authorization(credential: &str, signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed_headers}, Signature={signature}"
    )
}

/// The headers that botocore signed, with changes; an empty value removes a header.
fn headers(changes: &[(&'static str, &str)]) -> HeaderMap {
    let authorization = authorization(CREDENTIAL, SIGNED_HEADERS, SIGNATURE);
    let mut headers = HeaderMap::new();
    let base = [
        ("x-amz-target", "DynamoDB_20120810.DescribeTable"),
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-note", "  two   spaces "),
        ("x-amz-date", "20150830T123600Z"),
        ("host", "localhost:8000"),
        ("authorization", &authorization),
    ];
    for (name, value) in base.iter().chain(changes) {
        let name = HeaderName::from_static(name);
        if value.is_empty() {
            headers.remove(name);
        } else {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
    }
    headers
}

fn check(keys: &Keys, headers: &HeaderMap, body: &[u8], now: i64) -> Result<String, ApiError> {
    let request = Signed {
        method: "POST",
        path: "/",
        query: "",
        headers,
        body,
    };
    authenticate(keys, request, now)
}

fn refusal(changes: &[(&'static str, &str)]) -> (ErrorKind, String) {
    let error = check(&keys(|_| {}), &headers(changes), BODY, SIGNED_AT).unwrap_err();
    (error.kind, error.message)
}

#[test]
fn a_signature_of_another_implementation_is_right() {
    let keys = keys(|_| {});
    // twice: the second time with the kept signing key
    for _ in 0..2 {
        let id = check(&keys, &headers(&[]), BODY, SIGNED_AT + 60).unwrap();
        assert_eq!(id, "AKIDEXAMPLE");
    }
}

#[test]
fn any_change_makes_it_wrong() {
    let keys = keys(|_| {});
    let wrong = |headers: &HeaderMap, body: &[u8]| {
        let error = check(&keys, headers, body, SIGNED_AT).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidSignature);
        assert!(
            error
                .message
                .starts_with("The request signature we calculated does not match")
        );
        assert!(!error.message.contains("wJalr"));
    };
    wrong(&headers(&[]), b"{}");
    wrong(
        &headers(&[("x-amz-target", "DynamoDB_20120810.DeleteTable")]),
        BODY,
    );
    wrong(&headers(&[("host", "elsewhere")]), BODY);
    for signature in ["00", "zz", &SIGNATURE[1..], &SIGNATURE.replace('9', "8")] {
        let changed = authorization(CREDENTIAL, SIGNED_HEADERS, signature);
        wrong(&headers(&[("authorization", &changed)]), BODY);
    }
}

#[test]
fn the_query_string_can_carry_the_signature() {
    let query = "x=1&B=%2F%20z&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Feu-west-1%2Fdynamodb%2Faws4_request\
        &X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-amz-target\
        &X-Amz-Signature=373b31fefcc5d173acced83749f91d0a4d722d3c4fe45a82189f532761f82913";
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static("host"),
        HeaderValue::from_static("localhost:8000"),
    );
    headers.insert(
        HeaderName::from_static("x-amz-target"),
        HeaderValue::from_static("DynamoDB_20120810.ListTables"),
    );
    let check = |query: &str, now: i64| {
        let request = Signed {
            method: "POST",
            path: "/a%20b/",
            query,
            headers: &headers,
            body: b"",
        };
        authenticate(&keys(|_| {}), request, now)
    };
    assert_eq!(check(query, SIGNED_AT + 60).unwrap(), "AKIDEXAMPLE");
    assert_eq!(
        check(query, SIGNED_AT + 61).unwrap_err().message,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T123701Z - 60 sec.)"
    );
    let error = check(&query.replace("x=1", "x=2"), SIGNED_AT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidSignature);
    let error = check("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=a", SIGNED_AT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::IncompleteSignature);
    assert_eq!(
        error.message,
        "AWS query-string parameters must include 'X-Amz-Credential'. \
         AWS query-string parameters must include 'X-Amz-Signature'. \
         AWS query-string parameters must include 'X-Amz-SignedHeaders'. \
         Re-examine the query-string parameters."
    );
}

#[test]
fn who_shows_nothing_is_told_so() {
    for changes in [[("authorization", "")], [("authorization", "Basic abc")]] {
        assert_eq!(
            refusal(&changes),
            (
                ErrorKind::MissingAuthenticationToken,
                "Request is missing Authentication Token".to_owned()
            )
        );
    }
}

#[test]
fn incomplete_headers_are_told_what_they_lack() {
    let (kind, message) = refusal(&[
        ("authorization", "AWS4-HMAC-SHA256 Signature=b"),
        ("x-amz-date", ""),
    ]);
    assert_eq!(kind, ErrorKind::IncompleteSignature);
    assert_eq!(
        message,
        "Authorization header requires 'Credential' parameter. \
         Authorization header requires 'SignedHeaders' parameter. \
         Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. \
         Authorization=AWS4-HMAC-SHA256 Signature=b"
    );
    let (kind, message) = refusal(&[("authorization", "AWS4-HMAC-SHA256 Credential")]);
    assert_eq!(kind, ErrorKind::IncompleteSignature);
    assert_eq!(
        message,
        "'Credential' not a valid key=value pair (missing equal-sign) in Authorization header: \
         'AWS4-HMAC-SHA256 Credential'."
    );
    let (_, message) = refusal(&[("x-amz-date", "201")]);
    assert_eq!(
        message,
        "Date must be in ISO-8601 'basic format'. Got '201'. See http://en.wikipedia.org/wiki/ISO_8601"
    );
    let short = authorization("a/b/c/d", SIGNED_HEADERS, "00");
    let (_, message) = refusal(&[("authorization", &short)]);
    assert_eq!(
        message,
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d'"
    );
    let other = authorization(CREDENTIAL, SIGNED_HEADERS, "00").replace("SHA256 ", "SHA25 ");
    let (_, message) = refusal(&[("authorization", &other)]);
    assert_eq!(
        message,
        "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA25' (only AWS4-HMAC-SHA256 for now). "
    );
}

#[test]
fn clocks_may_differ_by_fifteen_minutes() {
    let keys = keys(|_| {});
    let at = |now| check(&keys, &headers(&[]), BODY, now);
    for now in [SIGNED_AT - 900, SIGNED_AT + 900] {
        assert!(at(now).is_ok());
    }
    assert_eq!(
        at(SIGNED_AT + 901).unwrap_err().message,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T125101Z - 15 min.)"
    );
    assert_eq!(
        at(SIGNED_AT - 901).unwrap_err().message,
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T122059Z + 15 min.)"
    );
}

#[test]
fn host_and_amz_headers_must_be_signed() {
    let without_host = authorization(CREDENTIAL, "x-amz-date;x-amz-note;x-amz-target", "00");
    let (kind, message) = refusal(&[("authorization", &without_host)]);
    assert_eq!(kind, ErrorKind::InvalidSignature);
    assert_eq!(
        message,
        "'Host' must be a 'SignedHeader' in the AWS Authorization."
    );
    let (_, message) = refusal(&[("x-amz-extra", "a")]);
    assert_eq!(
        message,
        "'x-amz-extra' must be a 'SignedHeader' in the AWS Authorization."
    );
}

#[test]
fn scopes_must_fit() {
    let other = authorization(
        "AKIDEXAMPLE/20150831/eu-west-1/s3/aws4",
        SIGNED_HEADERS,
        "00",
    );
    let (kind, message) = refusal(&[("authorization", &other)]);
    assert_eq!(kind, ErrorKind::InvalidSignature);
    assert_eq!(
        message,
        "Credential should be scoped to correct service: 'dynamodb'. \
         Credential should be scoped with a valid terminator: 'aws4_request', not 'aws4'. \
         Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
         '20150831' != '20150830', from '20150830T123600Z'."
    );
    let one_region = keys(|settings| settings.region = "eu-central-1".to_owned());
    let error = check(&one_region, &headers(&[]), BODY, SIGNED_AT).unwrap_err();
    assert_eq!(
        error.message,
        "Credential should be scoped to a valid region, not 'eu-west-1'."
    );
}

#[test]
fn unknown_keys_and_session_tokens_are_refused() {
    let unknown = authorization(
        &CREDENTIAL.replace("AKID", "XXXX"),
        SIGNED_HEADERS,
        SIGNATURE,
    );
    assert_eq!(
        refusal(&[("authorization", &unknown)]),
        (
            ErrorKind::UnrecognizedClient,
            "The security token included in the request is invalid.".to_owned()
        )
    );
}

#[test]
fn development_takes_any_key_but_not_none() {
    let any = keys(|settings| settings.accept_any_key = true);
    let invented = authorization("me/20150101/here/dynamodb/aws4_request", "host", "00");
    let id = check(&any, &headers(&[("authorization", &invented)]), BODY, 0).unwrap();
    assert_eq!(id, "me");
    let error = check(&any, &headers(&[("authorization", "")]), BODY, 0).unwrap_err();
    assert_eq!(error.kind, ErrorKind::MissingAuthenticationToken);
}

#[test]
fn keys_come_from_a_file_too_and_bad_lines_show_no_secret() {
    let file = std::env::temp_dir().join(format!("evenkeel-keys-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, "# keys\n\nAKIDFILE s3cret # ours\n").unwrap();
    let name = file.to_str().unwrap().to_owned();
    let loaded = keys(|settings| settings.access_keys_file = name.clone());
    assert!(
        loaded
            .secret("AKIDFILE")
            .is_some_and(|secret| secret.0 == "s3cret")
    );
    assert!(loaded.secret("AKIDEXAMPLE").is_some());
    std::fs::write(&file, "AKIDFILE s3cret more\n").unwrap();
    let settings = RouterSettings {
        access_keys_file: name,
        ..RouterSettings::default()
    };
    let error = Keys::load(&settings).err().unwrap().to_string();
    assert!(error.ends_with("line 1: expected `ID SECRET`"), "{error}");
    assert!(!format!("{settings:?}{error}").contains("s3cret"));
    std::fs::remove_file(&file).unwrap();
}
