//! What `evenkeel dev` tells its user once it serves.

use std::net::SocketAddr;
use std::path::Path;

use crate::tracing_ui::TracingUi;

/// The text: endpoint, data folder, the console (its address, and the token to sign in with), the tracing pages, and a line to paste.
pub fn text(
    endpoint: SocketAddr,
    data: &Path,
    console: Option<(SocketAddr, &str)>,
    traces: Option<&TracingUi>,
) -> String {
    let traces = traces.map_or(String::new(), |ui| {
        let TracingUi { pages, receiver } = ui;
        format!("  traces    http://{pages} (Jaeger; spans of your own programs: OTLP/gRPC at {receiver})\n")
    });
    let console = console.map_or(String::new(), |(address, token)| {
        format!("  console   http://{address}/console (to sign in: {token})\n")
    });
    let url = format!("http://{endpoint}");
    format!(
        "Evenkeel {version} is ready: 3 storage nodes in 3 zones, memds, GAC, archiver, admin, scrubber, canary and router in this process.

  endpoint  {url}
{console}{traces}  data      {data}
  keys      any access key is accepted (dev only)

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
        let console = Some((([127, 0, 0, 1], 8124).into(), "secret"));
        let text = text(
            ([127, 0, 0, 1], 8123).into(),
            Path::new("/tmp/x"),
            console,
            Some(&ui),
        );
        assert!(text.contains("\n  traces    http://127.0.0.1:16686 "));
        assert!(text.contains("  console   http://127.0.0.1:8124/console (to sign in: secret)\n"));
        assert!(text.contains("--endpoint-url http://127.0.0.1:8123\n"));
        assert!(text.contains("data      /tmp/x\n"));
    }
}
