#!/usr/bin/env python3
"""The knock a second time, by nothing but Python's hashlib and hmac: prints the vectors of golden.rs."""

import base64
import hashlib
import hmac
import struct


def hkdf(secret, purpose, server):
    """RFC 5869 with one block of output."""
    prk = hmac.new(b"postern v1", secret, hashlib.sha256).digest()
    return hmac.new(prk, purpose + b"\0" + server + b"\x01", hashlib.sha256).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()[:16]


def letters(data):
    return "".join(chr(65 + (b >> 4)) + chr(65 + (b & 15)) for b in data)


def token(carrier, binding):
    header = struct.pack(">BBIIHI", 0x11, 1, KID, TIME, SERVICE, 0)
    pad = mac(hkdf(LOCATOR, carrier, SERVER), b"hdr", NONCE)
    masked = bytes(a ^ b for a, b in zip(header, pad))
    return NONCE + masked + mac(hkdf(KEY, carrier, SERVER), b"tag", NONCE, masked, binding)


def hello(session_id):
    """A ClientHello's handshake message: one suite, supported_versions, and a key share of some group."""
    extensions = bytes.fromhex("002b0003020304" "003300070005" "2a2a" "000107")
    body = b"\x03\x03" + RANDOM + bytes([len(session_id)]) + session_id
    body += bytes.fromhex("00021301" "0100") + struct.pack(">H", len(extensions)) + extensions
    return b"\x01\x00" + struct.pack(">H", len(body)) + body


def session_id():
    header = struct.pack(">BBIIHI", 0x11, 1, KID, TIME, SERVICE, 0)
    pad = mac(hkdf(LOCATOR, b"hello", SERVER), b"hdr", RANDOM)
    masked = bytes(a ^ b for a, b in zip(header, pad))
    return masked + mac(hkdf(KEY, b"hello", SERVER), hello(masked + bytes(16)))


KEY = bytes(range(32))
LOCATOR = bytes(range(32, 64))
SERVER = bytes(range(64, 80))
NONCE = bytes(range(80, 96))
BINDING = bytes(range(96, 128))
RANDOM, SALT = bytes(range(128, 160)), bytes(range(160, 176))
KID, TIME, SERVICE = 0x01020304, 1_800_000_000, 7

print("plain", letters(token(b"plain", b"")))
print("tls  ", letters(token(b"tls", BINDING)))
print("hello", session_id().hex())
print("ack  ", (SALT + mac(hkdf(KEY, b"ack", SERVER), RANDOM, SALT)).hex(), "in ServerHello")
for status, code in [("ok", 0), ("upstream-down", 1), ("busy", 2)]:
    print("ack  ", mac(hkdf(KEY, b"ack", SERVER), bytes([code]), NONCE).hex(), status)

fields = [
    (1, b"bob.example.org"), (2, struct.pack(">H", 443)), (3, SERVER), (4, LOCATOR),
    (5, struct.pack(">I", KID)), (6, KEY), (7, struct.pack(">H", SERVICE) + b"ssh"), (8, bytes([2, 1])),
]
body = b"".join(bytes([tag, len(value)]) + value for tag, value in fields)
body += hashlib.sha256(body).digest()[:4]
print("invite", "postern://v1/" + base64.urlsafe_b64encode(body).decode().rstrip("="))
