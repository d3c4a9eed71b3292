//! The route cache.
/// Bounds of the cache.
#[derive(Clone, Debug)]
pub struct RoutesLimits {}
/// The cache.
pub struct Routes {}
