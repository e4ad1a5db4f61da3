//! Prices. Decimals with at most twelve places; no float comes near them.

use rust_decimal::Decimal;

use crate::Every;

/// Most decimal places of a price.
const PRICE_PLACES_MAX: u32 = 12;

/// Why a price was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a decimal number.
    #[error("not an amount such as \"29\" or \"0.001\"")]
    Amount,
    /// Below zero.
    #[error("an amount is not negative")]
    Negative,
    /// Too many places.
    #[error("an amount has at most 12 decimal places")]
    Places,
    /// Not three upper-case letters.
    #[error("a currency is three upper-case letters, such as USD")]
    Currency,
}

/// An ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads three upper-case letters.
    ///
    /// # Errors
    /// [`MoneyError::Currency`] otherwise.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let code: [u8; 3] = text
            .as_bytes()
            .try_into()
            .map_err(|_| MoneyError::Currency)?;
        if code.iter().all(u8::is_ascii_uppercase) {
            Ok(Self(code))
        } else {
            Err(MoneyError::Currency)
        }
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

/// What a plan costs each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanPrice {
    /// In units of the currency, not its minor units.
    pub amount: Decimal,
    /// The currency.
    pub currency: Currency,
    /// How often.
    pub every: Every,
}

/// What units beyond the quota cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OveragePrice {
    /// Price of `per` units, in the plan's currency.
    pub price: Decimal,
    /// How many units the price buys; at least 1.
    pub per: u64,
}

impl PlanPrice {
    /// Reads an amount as people write it.
    ///
    /// # Errors
    /// [`MoneyError`] when it is no number, negative, or too fine.
    pub fn parse_amount(text: &str) -> Result<Decimal, MoneyError> {
        let amount = Decimal::from_str_exact(text).map_err(|_| MoneyError::Amount)?;
        if amount.is_sign_negative() && !amount.is_zero() {
            return Err(MoneyError::Negative);
        }
        if amount.scale() > PRICE_PLACES_MAX {
            Err(MoneyError::Places)
        } else {
            Ok(amount)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_decimals_or_refused() {
        assert_eq!(PlanPrice::parse_amount("29"), Ok(Decimal::from(29)));
        assert_eq!(PlanPrice::parse_amount("0.001"), Ok(Decimal::new(1, 3)));
        assert_eq!(PlanPrice::parse_amount("-1"), Err(MoneyError::Negative));
        assert_eq!(PlanPrice::parse_amount("1e3"), Err(MoneyError::Amount));
        assert_eq!(
            PlanPrice::parse_amount("0.0000000000001"),
            Err(MoneyError::Places)
        );
        let finest = "0.000000000001";
        assert_eq!(PlanPrice::parse_amount(finest), Ok(Decimal::new(1, 12)));
        assert_eq!(PlanPrice::parse_amount("-0"), Ok(Decimal::ZERO));
    }

    #[test]
    fn currencies_are_three_capital_letters() {
        assert_eq!(Currency::parse("USD").unwrap().as_str(), "USD");
        assert_eq!(Currency::parse("EUR").unwrap().as_str(), "EUR");
        for bad in ["usd", "US", "USDT", "US1", ""] {
            assert_eq!(Currency::parse(bad), Err(MoneyError::Currency), "{bad}");
        }
    }
}
