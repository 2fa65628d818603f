//! What strangers do to a node by signalling: who is in a call hears nothing of it, who calls by a trunk is answered
//! all the while, and afterwards everything is as it was.

mod amplification;
mod connections;
mod flood;
mod injection;
mod network;
mod redirection;
mod scanners;
mod storms;
mod strangers;
