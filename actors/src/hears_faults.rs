//! How an actor comes to hear faults, in builds that have them.

/// Lets the named actor hear [`Fault`](crate::fault::Fault). Writes nothing at all outside of tests and the cargo feature `fault`.
#[cfg(any(test, feature = "fault"))]
#[macro_export]
macro_rules! hears_faults {
    ($actor:ty) => {
        impl ::actix::Handler<$crate::fault::Fault> for $actor {
            type Result = ();

            fn handle(&mut self, fault: $crate::fault::Fault, ctx: &mut Self::Context) {
                fault.strike(ctx);
            }
        }
    };
}

/// Lets the named actor hear faults in tests; this is not one.
#[cfg(not(any(test, feature = "fault")))]
#[macro_export]
macro_rules! hears_faults {
    ($actor:ty) => {};
}
