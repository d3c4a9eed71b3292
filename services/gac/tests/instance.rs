//! An instance on the in-process bus: it answers routers, once, and nobody else gets anything.

use std::time::Duration;

use gac::GacSettings;
use mesh::{CallError, Deadline, Identity, LocalBus, Mesh, TraceContext};
use model::{TableId, Units};
use protocol::subjects;
use protocol::tokens::{DirectionUse, TableUse, TokenReply, TokenRequest};

fn join(bus: &LocalBus, service: &str) -> Mesh {
    let identity = Identity {
        service: service.to_owned(),
        instance: 1,
        incarnation: 1,
    };
    Mesh::local(bus, identity)
}

fn request(sequence: u64, nonce: u64, tables: usize) -> TokenRequest {
    let side = DirectionUse {
        limit: Units::new(100),
        share: Units::new(50),
        ..DirectionUse::default()
    };
    let table = |number| TableUse {
        table: TableId(16 + number as u64),
        version: 1,
        on_demand: false,
        read: side,
        write: side,
    };
    TokenRequest {
        router: 1,
        incarnation: 7,
        sequence,
        nonce,
        tables: (0..tables).map(table).collect(),
    }
}

async fn ask(mesh: &Mesh, request: &TokenRequest) -> Result<TokenReply, CallError> {
    ask_for(Duration::from_secs(20), mesh, request).await
}

/// Of a request that is to stay without an answer.
const SILENCE: Duration = Duration::from_millis(300);

async fn ask_for(
    patience: Duration,
    mesh: &Mesh,
    request: &TokenRequest,
) -> Result<TokenReply, CallError> {
    let deadline = Deadline::after(patience);
    let trace = TraceContext::default();
    mesh.call(&subjects::gac_tokens(1), request, deadline, &trace)
        .await
}

#[actix::test]
async fn a_request_is_answered_once() {
    let bus = LocalBus::new();
    let running = gac::start(GacSettings::default(), join(&bus, "gac"))
        .await
        .unwrap();
    let router = join(&bus, "router");
    let reply = ask(&router, &request(1, 99, 3)).await.unwrap();
    assert_eq!((reply.nonce, reply.tables.len()), (99, 3));
    // It just started, and does not know the other routers yet: no more than what the router had.
    assert_eq!(reply.tables[0].write.share, Units::new(50));
    assert!(reply.tables[0].write.extra.is_zero());
    // The same again, an earlier one that comes late, one that is out of bounds.
    for again in [request(1, 99, 3), request(0, 98, 3), request(2, 97, 5_000)] {
        assert!(ask_for(SILENCE, &router, &again).await.is_err());
    }
    let reply = ask(&router, &request(3, 96, 0)).await.unwrap();
    assert_eq!((reply.nonce, reply.tables.len()), (96, 0));
    running.stop().await;
    assert!(ask_for(SILENCE, &router, &request(4, 95, 1)).await.is_err());
}
