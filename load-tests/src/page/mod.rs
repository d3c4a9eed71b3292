//! Reports as pages that need no other file and no network, and are readable without scripts. Owns the looks and the document around a
//! report's body; what stands where is each report's own.

pub mod chart;

use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page. `body` may have a timeline (`#timeline` with a `#tip`) of `seconds` seconds; `tips` are the lines shown for each.
pub fn document(title: &str, body: &str, tips: &[Vec<String>], seconds: f64) -> String {
    let data = serde_json::json!({"tips": tips, "left": chart::LEFT, "width": chart::WIDTH, "seconds": seconds});
    // Nothing in the data may end the script early.
    let data = data.to_string().replace("</", "<\\/");
    let mut page = String::with_capacity(body.len() + data.len() + 16 * 1024);
    // Writing into a String can't fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><main>\n{body}</main>\
         <script>const data={data};\n{SCRIPT}</script></body></html>\n",
        escape(title)
    );
    page
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `2026-11-06 23:59 UTC` of seconds since 1970.
pub fn date(seconds: u64) -> String {
    let (_, stamp) = signature::stamp(seconds);
    // 20260101T000000Z
    format!(
        "{}-{}-{} {}:{} UTC",
        &stamp[0..4],
        &stamp[4..6],
        &stamp[6..8],
        &stamp[9..11],
        &stamp[11..13]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(date(1_794_009_599), "2026-11-06 23:59 UTC");
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let tips = vec![vec!["</script><b>".to_owned()]];
        let page = document("<title>", "<p>body</p>", &tips, 1.0);
        assert!(page.contains("<title>&lt;title&gt;</title>") && !page.contains("://"));
        assert_eq!(page.matches("</script>").count(), 1);
    }
}
