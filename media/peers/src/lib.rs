//! Nothing lives here; see the tests.
