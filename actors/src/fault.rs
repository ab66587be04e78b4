//! Faults on purpose: how tests show what a panic costs.

/// Makes an actor panic. It exists in tests and with the cargo feature `fault` only; an actor hears it by
/// [`hears_faults!`](crate::hears_faults).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Panics in the handler.
    Handler,
    /// The handler ends well, and a future it has spawned panics.
    Future,
}

impl actix::Message for Fault {
    type Result = ();
}

impl Fault {
    /// Does it; called by what [`hears_faults!`](crate::hears_faults) writes.
    #[expect(clippy::panic, reason = "this is what it is for")]
    pub fn strike<A>(self, ctx: &mut crate::context::Context<A>)
    where
        A: actix::Actor<Context = crate::context::Context<A>>,
    {
        match self {
            Self::Handler => panic!("a fault on purpose, in a handler"),
            Self::Future => {
                let panics = async { panic!("a fault on purpose, in a future") };
                actix::AsyncContext::spawn(ctx, actix::fut::wrap_future(panics));
            }
        }
    }
}
