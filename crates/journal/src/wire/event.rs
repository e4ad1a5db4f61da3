//! The usage event with its charges as bytes.

use std::net::IpAddr;
use std::sync::Arc;

use prost::Message;
use tollgate_model::{
    ApiId, Charge, DenialCode, EventId, KeyId, Label, OrganizationId, Outcome, PlanId,
    SubscriptionId, Timestamp, UsageEvent,
};

use super::grants::{ChargeMessage, encode_charge};
use super::{Unreadable, encode};

#[derive(Clone, PartialEq, Message)]
struct LabelMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct EventMessage {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(sint64, tag = "2")]
    at: i64,
    #[prost(string, optional, tag = "3")]
    key: Option<String>,
    #[prost(string, optional, tag = "4")]
    key_family: Option<String>,
    #[prost(string, optional, tag = "5")]
    subscription: Option<String>,
    #[prost(string, optional, tag = "6")]
    organization: Option<String>,
    #[prost(string, tag = "7")]
    api: String,
    #[prost(string, tag = "8")]
    route: String,
    #[prost(string, tag = "9")]
    method: String,
    #[prost(string, tag = "10")]
    path: String,
    #[prost(uint32, tag = "11")]
    status: u32,
    /// 1 forwarded, 2 denied, 3 upstream error, 4 client closed, 5 cut, 6 interrupted, 7 lapsed.
    #[prost(uint32, tag = "12")]
    outcome: u32,
    #[prost(string, optional, tag = "13")]
    code: Option<String>,
    #[prost(string, optional, tag = "14")]
    limit: Option<String>,
    #[prost(uint64, tag = "15")]
    latency_us: u64,
    #[prost(uint64, optional, tag = "16")]
    upstream_latency_us: Option<u64>,
    #[prost(uint64, tag = "17")]
    bytes_in: u64,
    #[prost(uint64, tag = "18")]
    bytes_out: u64,
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", optional, tag = "19")]
    address: Option<Vec<u8>>,
    /// 2 bytes.
    #[prost(bytes = "vec", optional, tag = "20")]
    country: Option<Vec<u8>>,
    #[prost(string, optional, tag = "21")]
    user_agent: Option<String>,
    #[prost(uint64, tag = "22")]
    units: u64,
    #[prost(string, tag = "23")]
    meter: String,
    #[prost(message, repeated, tag = "24")]
    labels: Vec<LabelMessage>,
    #[prost(string, optional, tag = "25")]
    plan: Option<String>,
    #[prost(uint32, optional, tag = "26")]
    plan_version: Option<u32>,
    #[prost(string, optional, tag = "27")]
    would_deny: Option<String>,
    #[prost(bool, tag = "28")]
    overridden: bool,
    #[prost(bool, tag = "29")]
    test: bool,
    #[prost(string, tag = "30")]
    producer: String,
    #[prost(string, optional, tag = "31")]
    trace_id: Option<String>,
    #[prost(string, optional, tag = "32")]
    client_request_id: Option<String>,
    #[prost(uint32, tag = "33")]
    count: u32,
    #[prost(uint64, tag = "34")]
    catalog_version: u64,
    #[prost(sint64, optional, tag = "35")]
    subscription_period: Option<i64>,
    #[prost(sint64, optional, tag = "36")]
    key_period: Option<i64>,
    #[prost(message, repeated, tag = "37")]
    charges: Vec<ChargeMessage>,
}

/// The few fields of an event that recovery needs.
#[derive(Clone, PartialEq, Message)]
struct DigestMessage {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(sint64, tag = "2")]
    at: i64,
    #[prost(uint32, tag = "12")]
    outcome: u32,
    #[prost(uint64, tag = "22")]
    units: u64,
    #[prost(message, repeated, tag = "37")]
    charges: Vec<ChargeMessage>,
}

/// What recovery needs of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Digest {
    pub id: String,
    pub at: Timestamp,
    pub outcome: Outcome,
    pub units: u64,
    pub charges: Vec<Charge>,
}

fn outcome_code(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Forwarded => 1,
        Outcome::Denied => 2,
        Outcome::UpstreamError => 3,
        Outcome::ClientClosed => 4,
        Outcome::Cut => 5,
        Outcome::Interrupted => 6,
        Outcome::Lapsed => 7,
    }
}

fn outcome_of(code: u32) -> Result<Outcome, Unreadable> {
    Outcome::ALL
        .into_iter()
        .find(|outcome| outcome_code(*outcome) == code)
        .ok_or(Unreadable)
}

/// Appends the payload of an event or a progress entry.
pub(crate) fn encode_event(out: &mut Vec<u8>, event: &UsageEvent, charges: &[Charge]) {
    encode::text(out, 1, event.id.as_str());
    encode::instant(out, 2, event.at);
    encode::some_text(out, 3, event.key.as_ref().map(KeyId::as_str));
    encode::some_text(out, 4, event.key_family.as_ref().map(KeyId::as_str));
    let subscription = event.subscription.as_ref().map(SubscriptionId::as_str);
    encode::some_text(out, 5, subscription);
    let organization = event.organization.as_ref().map(OrganizationId::as_str);
    encode::some_text(out, 6, organization);
    encode::text(out, 7, event.api.as_str());
    encode::text(out, 8, &event.route);
    encode::text(out, 9, &event.method);
    encode::text(out, 10, &event.path);
    encode::number(out, 11, u64::from(event.status));
    encode::number(out, 12, u64::from(outcome_code(event.outcome)));
    encode::some_text(out, 13, event.code.map(DenialCode::as_str));
    encode::some_text(out, 14, event.limit.as_deref());
    encode::number(out, 15, event.latency_us);
    if let Some(us) = event.upstream_latency_us {
        encode::some_number(out, 16, us);
    }
    encode::number(out, 17, event.bytes_in);
    encode::number(out, 18, event.bytes_out);
    match event.address {
        Some(IpAddr::V4(ip)) => encode::some_bytes(out, 19, &ip.octets()),
        Some(IpAddr::V6(ip)) => encode::some_bytes(out, 19, &ip.octets()),
        None => {}
    }
    if let Some(country) = &event.country {
        encode::some_bytes(out, 20, country);
    }
    encode::some_text(out, 21, event.user_agent.as_deref());
    encode::number(out, 22, event.units);
    encode::text(out, 23, &event.meter);
    encode_rest(out, event, charges);
}

fn encode_rest(out: &mut Vec<u8>, event: &UsageEvent, charges: &[Charge]) {
    for label in &event.labels {
        encode::nested(out, 24, |out| {
            encode::text(out, 1, &label.name);
            encode::text(out, 2, &label.value);
        });
    }
    encode::some_text(out, 25, event.plan.as_ref().map(PlanId::as_str));
    if let Some(version) = event.plan_version {
        encode::some_number(out, 26, u64::from(version));
    }
    encode::some_text(out, 27, event.would_deny.as_deref());
    encode::number(out, 28, u64::from(event.overridden));
    encode::number(out, 29, u64::from(event.test));
    encode::text(out, 30, &event.producer);
    encode::some_text(out, 31, event.trace_id.as_deref());
    encode::some_text(out, 32, event.client_request_id.as_deref());
    encode::number(out, 33, u64::from(event.count));
    encode::number(out, 34, event.catalog_version);
    if let Some(start) = event.subscription_period {
        encode::some_instant(out, 35, start);
    }
    if let Some(start) = event.key_period {
        encode::some_instant(out, 36, start);
    }
    for charge in charges {
        encode_charge(out, 37, charge);
    }
}

fn arc(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn address_of(bytes: &[u8]) -> Result<IpAddr, Unreadable> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| Unreadable)
}

/// Reads the payload of an event or a progress entry.
pub(crate) fn decode_event(payload: &[u8]) -> Result<(UsageEvent, Vec<Charge>), Unreadable> {
    let message = EventMessage::decode(payload)?;
    let charges: Result<Vec<Charge>, Unreadable> =
        message.charges.iter().map(ChargeMessage::read).collect();
    Ok((message.read()?, charges?))
}

/// Reads only what recovery needs.
pub(crate) fn digest_event(payload: &[u8]) -> Result<Digest, Unreadable> {
    let message = DigestMessage::decode(payload)?;
    let charges: Result<Vec<Charge>, Unreadable> =
        message.charges.iter().map(ChargeMessage::read).collect();
    Ok(Digest {
        id: message.id,
        at: Timestamp(message.at),
        outcome: outcome_of(message.outcome)?,
        units: message.units,
        charges: charges?,
    })
}

impl EventMessage {
    fn read(self) -> Result<UsageEvent, Unreadable> {
        let code = match &self.code {
            Some(code) => Some(DenialCode::parse(code).ok_or(Unreadable)?),
            None => None,
        };
        let country = match &self.country {
            Some(bytes) => Some(bytes.as_slice().try_into().map_err(|_| Unreadable)?),
            None => None,
        };
        let label = |label: LabelMessage| Label {
            name: arc(&label.name),
            value: arc(&label.value),
        };
        Ok(UsageEvent {
            id: EventId::parse(&self.id),
            at: Timestamp(self.at),
            key: self.key.as_deref().map(KeyId::new),
            key_family: self.key_family.as_deref().map(KeyId::new),
            subscription: self.subscription.as_deref().map(SubscriptionId::new),
            organization: self.organization.as_deref().map(OrganizationId::new),
            api: ApiId::new(&self.api),
            route: arc(&self.route),
            method: arc(&self.method),
            path: arc(&self.path),
            status: u16::try_from(self.status).map_err(|_| Unreadable)?,
            outcome: outcome_of(self.outcome)?,
            code,
            limit: self.limit.as_deref().map(arc),
            latency_us: self.latency_us,
            upstream_latency_us: self.upstream_latency_us,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            address: self.address.as_deref().map(address_of).transpose()?,
            country,
            user_agent: self.user_agent.as_deref().map(arc),
            units: self.units,
            meter: arc(&self.meter),
            labels: self.labels.into_iter().map(label).collect(),
            plan: self.plan.as_deref().map(PlanId::new),
            plan_version: self.plan_version,
            would_deny: self.would_deny.as_deref().map(arc),
            overridden: self.overridden,
            test: self.test,
            producer: arc(&self.producer),
            trace_id: self.trace_id.as_deref().map(arc),
            client_request_id: self.client_request_id.as_deref().map(arc),
            count: self.count,
            catalog_version: self.catalog_version,
            subscription_period: self.subscription_period.map(Timestamp),
            key_period: self.key_period.map(Timestamp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, full_event};

    fn check(event: &UsageEvent, charges: &[Charge]) {
        let mut bytes = Vec::new();
        encode_event(&mut bytes, event, charges);
        let (back, back_charges) = decode_event(&bytes).unwrap();
        assert_eq!(&back, event);
        assert_eq!(back_charges, charges);
        let message = EventMessage::decode(bytes.as_slice()).unwrap();
        assert_eq!(message.encode_to_vec(), bytes, "not what prost would write");
        let digest = digest_event(&bytes).unwrap();
        assert_eq!(digest.id, event.id.as_str());
        assert_eq!(digest.at, event.at);
        assert_eq!(digest.outcome, event.outcome);
        assert_eq!(digest.units, event.units);
        assert_eq!(digest.charges, charges);
    }

    #[test]
    fn every_field_of_an_event_reads_back() {
        let (event, charges) = full_event();
        check(&event, &charges);
    }

    #[test]
    fn absent_fields_stay_absent_and_empty_ones_empty() {
        let mut event = event(1, 0);
        check(&event, &[]);
        event.limit = Some(arc(""));
        event.upstream_latency_us = Some(0);
        event.plan_version = Some(0);
        event.subscription_period = Some(Timestamp(0));
        event.key_period = Some(Timestamp(-1));
        check(&event, &[]);
    }

    #[test]
    fn parts_of_every_length_read_back_where_a_length_takes_a_second_byte() {
        let mut event = event(1, 0);
        for length in 100..140 {
            event.labels = vec![Label {
                name: arc("name"),
                value: arc(&"x".repeat(length)),
            }];
            check(&event, &[]);
        }
    }

    #[test]
    fn outcomes_keep_their_numbers() {
        let codes: Vec<u32> = Outcome::ALL.into_iter().map(outcome_code).collect();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(outcome_of(0), Err(Unreadable));
        assert_eq!(outcome_of(8), Err(Unreadable));
    }
}
