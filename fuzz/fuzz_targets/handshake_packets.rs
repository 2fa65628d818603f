#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| voicebridge_fuzz::handshake_packets(data));
