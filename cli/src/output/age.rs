//! Durations as kubectl prints them.

/// Returns how long ago something was, in kubectl's words: `5s`, `3m20s`, `7m`, `5h12m`, `2d3h`, `12d`, `2y45d`.
///
/// Source: `HumanDuration` of `k8s.io/apimachinery/pkg/util/duration`.
pub fn human(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    if seconds < 60 * 2 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 60 * 3 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 24 * 8 {
        two(days, "d", hours % 24, "h")
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        two(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_read_as_in_kubectl() {
        let minute = 60;
        let hour = 60 * minute;
        let day = 24 * hour;
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (123, "2m3s"),
            (10 * minute, "10m"),
            (179 * minute + 59, "179m"),
            (3 * hour, "3h"),
            (5 * hour + 12 * minute, "5h12m"),
            (8 * hour, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (2 * day + 3 * hour, "2d3h"),
            (8 * day, "8d"),
            (729 * day, "729d"),
            (775 * day, "2y45d"),
            (9 * 365 * day, "9y"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }
}
