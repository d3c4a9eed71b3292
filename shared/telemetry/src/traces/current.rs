//! Which request this thread is working on, so that log lines can name its trace.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use mesh::TraceContext;

thread_local! {
    static CURRENT: Cell<TraceContext> = const {
        Cell::new(TraceContext {
            trace_id: 0,
            span_id: 0,
            sampled: false,
        })
    };
}

/// What this thread is working on; none: nothing that belongs to a request.
pub fn current() -> TraceContext {
    CURRENT.get()
}

/// Until dropped, this thread works on this.
#[must_use = "it ends when it is dropped"]
#[derive(Debug)]
pub struct Entered(TraceContext);

/// This thread works on this now. Not to be held over an `await`: see `within`.
pub fn enter(context: TraceContext) -> Entered {
    Entered(CURRENT.replace(context))
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Whichever thread works on `future` works on this. It has to be pinned (`std::pin::pin!`): this is for every request, and allocates nothing.
pub fn within<F: Future + Unpin>(context: TraceContext, future: F) -> Within<F> {
    Within { context, future }
}

/// See `within`.
#[derive(Debug)]
pub struct Within<F> {
    context: TraceContext,
    future: F,
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = enter(self.context);
        Pin::new(&mut self.future).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_worked_on_is_known_while_it_is() {
        let context = |trace_id| TraceContext {
            trace_id,
            span_id: 1,
            sampled: false,
        };
        let outer = std::pin::pin!(async {
            assert_eq!(current(), context(1));
            tokio::task::yield_now().await;
            {
                let _inner = enter(context(2));
                assert_eq!(current(), context(2));
            }
            current()
        });
        let other = std::pin::pin!(async {
            tokio::task::yield_now().await;
            current()
        });
        let (outer, other) = tokio::join!(within(context(1), outer), within(context(3), other));
        assert_eq!((outer, other), (context(1), context(3)));
        assert!(!current().is_some());
    }
}
