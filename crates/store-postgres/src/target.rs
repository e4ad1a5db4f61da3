//! Where the database is: the URL of the settings, read, with what it may and may not say.
//!
//! **Invariant.** Nothing here shows the password: [`Target`] prints as `user@host:port/database`.
//!
//! **TLS.** `sslmode=require` (also spelled `verify-full`) means TLS with the server's certificate
//! and name checked, against the system's roots or the file of `sslrootcert`; `disable` means none.
//! Without the word, connections over a socket file or the loopback have no TLS and all others
//! must. `prefer` and `allow` are refused: whoever can read along can also switch TLS off then.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::failure::{Failure, Worked};
use crate::options::{Options, ms};

/// How connections are encrypted.
#[derive(Clone)]
pub(crate) enum Tls {
    None(NoTls),
    Checked(MakeRustlsConnect),
}

/// Where to connect, as whom, and how.
pub(crate) struct Target {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
}

impl Target {
    /// Reads a URL.
    pub(crate) fn read(url: &str, options: &Options) -> Worked<Self> {
        let (url, words) = take_tls_words(url)?;
        // The cause quotes parts of the URL, and with them perhaps the password.
        let mut config: Config = url.parse().map_err(|_| {
            Failure::Address(
                "it must look like \
                 postgres://user:password@host:5432/database, with %-escapes for / : @ # % in a \
                 password, and only parameters that PostgreSQL's URLs have"
                    .to_owned(),
            )
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Failure::Address(
                "it names no host: postgres://user@host/database".to_owned(),
            ));
        }
        let tls = match words.mode.unwrap_or_else(|| is_far(&config)) {
            false => {
                config.ssl_mode(SslMode::Disable);
                Tls::None(NoTls)
            }
            true => {
                config.ssl_mode(SslMode::Require);
                Tls::Checked(checked(words.roots.as_deref())?)
            }
        };
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_application_name().is_none() {
            config.application_name("tollgate");
        }
        config
            .connect_timeout(ms(options.connect_timeout_ms))
            .tcp_user_timeout(ms(options.answer_timeout_ms))
            .keepalives_idle(ms(options.connect_timeout_ms))
            .keepalives_interval(ms(options.connect_timeout_ms));
        Ok(Self { config, tls })
    }

    /// The same with server settings that hold for every connection.
    pub(crate) fn with_settings(&self, settings: &str) -> Config {
        let mut config = self.config.clone();
        let all = match config.get_options() {
            Some(own) => format!("{settings} {own}"),
            None => settings.to_owned(),
        };
        config.options(all);
        config
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        for (place, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            let ports = self.config.get_ports();
            if let Some(port) = ports.get(place).or(ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

/// The words on TLS that the driver does not know.
#[derive(Default)]
struct TlsWords {
    mode: Option<bool>,
    roots: Option<String>,
}

/// Takes `sslmode` and `sslrootcert` out of a URL.
fn take_tls_words(url: &str) -> Worked<(String, TlsWords)> {
    let mut words = TlsWords::default();
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), words));
    };
    let mut rest = Vec::new();
    for word in query.split('&').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("sslmode", "disable")) => words.mode = Some(false),
            Some(("sslmode", "require" | "verify-full")) => words.mode = Some(true),
            Some(("sslmode", mode)) => {
                let why = format!(
                    "sslmode={mode} is not supported, as it does not check whom it \
                     talks to; use require (certificate and name are checked; sslrootcert names \
                     a file of roots) or disable"
                );
                return Err(Failure::Address(why));
            }
            Some(("sslrootcert", path)) => words.roots = Some(path.replace("%2F", "/")),
            _ => rest.push(word),
        }
    }
    let url = match rest.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", rest.join("&")),
    };
    Ok((url, words))
}

/// Whether a host is reached over a network.
fn is_far(config: &Config) -> bool {
    config.get_hosts().iter().any(|host| match host {
        Host::Unix(_) => false,
        Host::Tcp(name) => {
            let address: Option<std::net::IpAddr> = name.parse().ok();
            name != "localhost" && !address.is_some_and(|address| address.is_loopback())
        }
    })
}

fn checked(roots_file: Option<&str>) -> Worked<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    match roots_file {
        Some(path) => {
            let unreadable =
                |why: String| Failure::Address(format!("sslrootcert={path} cannot be used: {why}"));
            let read = CertificateDer::pem_file_iter(Path::new(path));
            for certificate in read.map_err(|error| unreadable(error.to_string()))? {
                let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                let added = roots.add(certificate);
                added.map_err(|error| unreadable(error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Address(format!("TLS cannot be used: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Target, String> {
        Target::read(url, &Options::default())
            .map_err(|failure| failure.about(tollgate_store::Entity::Database).to_string())
    }

    #[test]
    fn the_password_is_in_no_text() {
        let target = read("postgres://ann:s3cret@db.example/tollgate?sslmode=disable").unwrap();
        assert_eq!(
            target.to_string(),
            "postgres://ann@db.example:5432/tollgate"
        );
        assert!(!format!("{:?}", target.config).contains("s3cret"));
        for bad in [
            "postgres://ann:s3cret@db.example:port/x",
            "postgres://ann:s3cret@db.example/x?nonsense=1",
            "postgres://ann:s3cret@/x",
            "postgres://ann:s3cret@db.example/x?sslmode=prefer",
        ] {
            let why = read(bad).err().unwrap();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }

    #[test]
    fn a_network_asks_for_tls_and_the_own_machine_does_not() {
        let tls = |url: &str| matches!(read(url).unwrap().tls, Tls::Checked(_));
        assert!(tls("postgres://ann@db.example/x"));
        assert!(tls("postgres://ann@localhost/x?sslmode=require"));
        assert!(tls("postgres://ann@localhost,db.example/x"));
        for near in ["localhost", "127.0.0.1", "%2Ftmp"] {
            assert!(!tls(&format!("postgres://ann@{near}/x")), "{near}");
        }
        assert!(!tls("postgres://ann@db.example/x?sslmode=disable"));
        assert!(read("postgres://ann@db.example/x?sslrootcert=/nowhere.pem").is_err());
    }

    #[test]
    fn what_else_the_url_says_is_kept() {
        let target =
            read("postgresql://ann@localhost:99/x?application_name=me&options=-c%20a%3Db").unwrap();
        assert_eq!(target.config.get_application_name(), Some("me"));
        assert_eq!(
            target.with_settings("-c c=d").get_options(),
            Some("-c c=d -c a=b")
        );
    }
}
