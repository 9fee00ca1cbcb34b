//! The engine of Ostler.
