//! What `evenkeel dev` tells its user once it serves.

use std::net::SocketAddr;
use std::path::Path;

use crate::tracing_ui::TracingUi;

/// The text: endpoint, data folder, and a line to paste.
pub fn text(endpoint: SocketAddr, data: &Path, traces: Option<&TracingUi>) -> String {
    let traces = traces.map_or(String::new(), |ui| {
        let TracingUi { pages, receiver } = ui;
        format!("\n  traces    http://{pages} (Jaeger; spans of your own programs: OTLP/gRPC at {receiver})")
    });
    let url = format!("http://{endpoint}");
    format!(
        "Evenkeel {version} is ready: 3 storage nodes in 3 zones, memds, GAC, archiver, admin, scrubber and router in this process.

  endpoint  {url}
  data      {data}
  keys      any access key is accepted (dev only){traces}

Try it:
  AWS_ACCESS_KEY_ID=dev AWS_SECRET_ACCESS_KEY=dev AWS_DEFAULT_REGION=us-east-1 aws dynamodb list-tables --endpoint-url {url}

Ctrl-C stops it; the data stays.
",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_endpoint_and_the_folder() {
        let ui = TracingUi {
            pages: ([127, 0, 0, 1], 16686).into(),
            receiver: ([127, 0, 0, 1], 4317).into(),
        };
        let text = text(
            ([127, 0, 0, 1], 8123).into(),
            Path::new("/tmp/x"),
            Some(&ui),
        );
        assert!(text.contains("traces    http://127.0.0.1:16686 "));
        assert!(text.contains("--endpoint-url http://127.0.0.1:8123\n"));
        assert!(text.contains("data      /tmp/x\n"));
    }
}
