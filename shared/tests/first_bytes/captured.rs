//! What programs have said first to a port that only listened. It never makes anything up: `greetings.rs`
//! does, from the specifications.

use postern_shared::sniff::Kind;

use crate::samples::hex;

pub(crate) fn captured() -> Vec<(Kind, &'static str, Vec<u8>)> {
    SAID.iter().map(|(kind, program, digits)| (*kind, *program, hex(digits))).collect()
}

/// By those of Debian 12, whose names and options are here.
const SAID: &[(Kind, &str, &str)] = &[
    (Kind::Socks4, "curl --socks4", "04010050c000020100"),
    (Kind::Socks4, "curl --socks4a", "0401005000000001007777772e6578616d706c652e636f6d00"),
    (Kind::Socks4, "nc -X 4, to port 20481", "04015001c000020100"),
    (Kind::Socks5, "curl --socks5", "05020001"),
    (Kind::Socks5, "curl --socks5-hostname, a user", "0503000102"),
    (Kind::Socks5, "nc -X 5", "050100"),
    (
        Kind::Postgres,
        "psql",
        "\
         00000036000300007573657200626f620064617461626173650073686f70006170706c69636174696f6e\
         5f6e616d65007073716c0000",
    ),
    (Kind::Postgres, "psql, PGSSLMODE=require", "0000000804d2162f"),
    (Kind::Syslog, "logger --rfc3164", "3c31333e4e6f762032312030393a32333a343620"),
    (
        Kind::Syslog,
        "logger --rfc3164 --octet-count",
        "3334203c31333e4e6f762032312030393a32333a343620",
    ),
    (
        Kind::Syslog,
        "logger --rfc5424",
        "3c31333e3120323032362d31312d32315430393a32333a34362e3236333335332b30303a303020",
    ),
    (
        Kind::Syslog,
        "logger --rfc5424=notime,nohost,notq",
        "3c383e31202d202d20726f6f74202d202d202d2068656c6c6f0a",
    ),
    (Kind::Mqtt, "mosquitto_pub", "100c00044d5154540402003c0000"),
    (
        Kind::Mqtt,
        "mosquitto_pub -V mqttv5, a will and a user",
        "101f00044d51545405c6003c0321001400000000017700017800026d6500027077",
    ),
    (
        Kind::Mqtt,
        "mosquitto_pub -V mqttv31",
        "102500064d51497364700302003c00176d6f73712d5a35735563616537754f336d304271523742",
    ),
    (Kind::OpenVpn, "openvpn 2.6", "000e3851f60156513303940000000000"),
    (
        Kind::OpenVpn,
        "openvpn --tls-auth --auth MD5",
        "002638283fef3e71a48d4c6411b67bde1d48ac0d60dd15e6467da4000000016b01636d0000000000",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-auth --auth SHA1",
        "\
         002a389ec227ef8c3fae1e2ef671f1ce7181706c2939a5eeecfa60de1eeeef000000016b01636f000000\
         0000",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-auth --auth SHA224",
        "\
         003238dc0774196fa331d82ba1a87f72e950a368b8f381c6f95ce59d1e3d9ded6a11634d903d73000000\
         016b0163700000000000",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-auth --auth SHA256",
        "\
         0036388417d9ffb5599b55276992d735865f5f057d1145061a17f83e92963336eebad9392b5bcff514bb\
         a2000000016b0163730000000000",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-auth --auth SHA384",
        "\
         00463890d92bdaba7d0defd8faec8c79e67eee2af13d5055463cf0d321529653fae0582970d4e7d90642\
         fb55ce8d83db9833b5922cda3c621ae115000000016b0163750000000000",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-auth --auth SHA512",
        "\
         005638b22d3328e6325c41d05ed55457bedf2babe41ce032951f78008871e759179a40eac6127d754a59\
         9ce1c566918926988f573a1e671c45975052b8916a0d50e38d4f9ea4319350f5c6000000016b01637600\
         00000000",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-crypt",
        "\
         0036380f67b1dfc7cae0f7000000016b0163782ae1a4cbba02f7c7b9a630902ccc12e7040d71e624a86f\
         ddddb0dbab94b3cc59a23a5cb199",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-crypt-v2, its head",
        "0161506bdec3d5668565e20f0000016b0163793175e56e710d9ac340561d8065ba91d7721025ef34",
    ),
    (
        Kind::OpenVpn,
        "openvpn --tls-crypt-v2, 700 bytes of metadata, its head",
        "0415500534af7131d2e4110f0000016b01637b3f948e1f21ac98017ca74e3fcecbd865595285c3f6",
    ),
    (Kind::Tinc, "tincd 1.0", "3020616c6963652031370a"),
];
