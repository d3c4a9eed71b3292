//! What `evenkeel dev` tells its user once it serves.

use std::net::SocketAddr;
use std::path::Path;

/// The text: endpoint, data folder, and a line to paste.
pub fn text(endpoint: SocketAddr, data: &Path) -> String {
    let url = format!("http://{endpoint}");
    format!(
        "Evenkeel {version} is ready: 3 storage nodes in 3 zones, memds, GAC, archiver, admin, scrubber and router in this process.

  endpoint  {url}
  data      {data}
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
        let text = text(([127, 0, 0, 1], 8123).into(), Path::new("/tmp/x"));
        assert!(text.contains("--endpoint-url http://127.0.0.1:8123\n"));
        assert!(text.contains("data      /tmp/x\n"));
    }
}
