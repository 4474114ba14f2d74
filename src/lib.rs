//! Latentrace.
