//! Dates as Apache's tools print them, in UTC, from milliseconds since 1970.

struct Civil {
    year: i64,
    /// 1..=12
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Proleptic Gregorian calendar; years start in March so that the leap day comes last.
fn civil(millis: i64) -> Civil {
    let seconds = millis.div_euclid(1000);
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(146_097);
    let of_era = from_march_0000.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: month as usize,
        day: of_year - (153 * march_month + 2) / 5 + 1,
        weekday: (days + 4).rem_euclid(7) as usize,
        hour: of_day / 3_600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
    }
}

/// `Fri Nov 20 17:46:53 UTC 2026`
pub fn long(millis: i64) -> String {
    let c = civil(millis);
    format!(
        "{} {} {:02} {:02}:{:02}:{:02} UTC {}",
        WEEKDAYS[c.weekday],
        MONTHS[c.month - 1],
        c.day,
        c.hour,
        c.minute,
        c.second,
        c.year
    )
}

/// `2026-11-20T17:45:33,006`
pub fn iso(millis: i64) -> String {
    let c = civil(millis);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02},{:03}",
        c.year,
        c.month,
        c.day,
        c.hour,
        c.minute,
        c.second,
        millis.rem_euclid(1000)
    )
}

/// `11/20/26, 5:46:51 PM UTC`
pub fn short(millis: i64) -> String {
    let c = civil(millis);
    format!("{}/{}/{:02}, {} UTC", c.month, c.day, c.year.rem_euclid(100), clock(&c))
}

/// `Nov 20, 2026, 5:46:51 PM`
pub fn medium(millis: i64) -> String {
    let c = civil(millis);
    format!("{} {}, {}, {}", MONTHS[c.month - 1], c.day, c.year, clock(&c))
}

/// `5:46:51 PM`
fn clock(c: &Civil) -> String {
    let half = if c.hour < 12 { "AM" } else { "PM" };
    format!("{}:{:02}:{:02} {half}", (c.hour + 11) % 12 + 1, c.minute, c.second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_times() {
        assert_eq!(iso(1_795_196_813_006), "2026-11-20T17:46:53,006");
    }

    #[test]
    fn the_short_forms() {
        assert_eq!(short(1_795_196_813_000), "11/20/26, 5:46:53 PM UTC");
        assert_eq!(short(0), "1/1/70, 12:00:00 AM UTC");
        assert_eq!(medium(12 * 3_600_000), "Jan 1, 1970, 12:00:00 PM");
    }

    fn check(millis: i64, expected: &str) {
        assert_eq!(long(millis), expected);
    }

    #[test]
    fn known_dates() {
        check(0, "Thu Jan 01 00:00:00 UTC 1970");
        check(1_795_196_813_000, "Fri Nov 20 17:46:53 UTC 2026");
        check(951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000");
        check(-1, "Wed Dec 31 23:59:59 UTC 1969");
    }
}
