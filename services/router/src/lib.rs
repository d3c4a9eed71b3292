//! The router: HTTP front door of the mesh.
mod settings;
pub use settings::{AccessKey, RouterSettings, Secret};

/// A running router.
pub struct Running {}
impl Running {
    /// Address of the DynamoDB endpoint (the port that was drawn, if 0 was asked for).
    pub fn address(&self) -> std::net::SocketAddr {
        todo!()
    }
    /// Drains and stops: no new connections, requests under way finish (bounded), then everything is gone.
    pub async fn stop(self) {}
}

/// Starts a router: connects nothing itself (`mesh` does), listens before it returns.
pub async fn start(_settings: RouterSettings, _mesh: mesh::Mesh) -> anyhow::Result<Running> {
    todo!()
}
