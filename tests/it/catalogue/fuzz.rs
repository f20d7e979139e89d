//! Replies that nobody ever sent, made of pieces of those that somebody did. `CREDD_LONG=1` makes ten million of them.

use std::{collections::BTreeMap, sync::LazyLock};

use credd::{
    catalogue::{PRESENTED, Refusal, SURFACES, Surface},
    clock::{Clock, SystemClock},
    credential::{Failure, Reply, Verdict},
};
use regex::Regex;

use super::{REPLIES, catalogue, now, replies};

/// Steele, Lea, Flood: SplitMix64. A seed names a whole run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

const PIECES: [&str; 34] = [
    "{\"error\":\"",
    "\",\"error_description\":\"",
    "\"}",
    "{\"errors\":[{\"message\":\"",
    "\"}]}",
    "<html><title>",
    "<?xml version=\"1.0\"?><Error><Code>",
    "</Code><Message>",
    "</Message></Error>",
    "token",
    " expired",
    " revoked",
    " not",
    " your account",
    " was disabled",
    " invalid",
    "invalid_grant",
    "rate limit exceeded",
    " try again in 5m",
    " permission",
    " the user",
    " password",
    " the server",
    " is",
    " no longer valid",
    "\\u00e9",
    "\u{65e0}\u{6548}",
    "\u{0}",
    "\u{feff}",
    "\n",
    "=",
    "&error=",
    ",",
    "[[[[[[[[",
];
const NAMES: [&str; 10] = [
    "retry-after",
    "www-authenticate",
    "x-ratelimit-reset",
    "x-ratelimit-remaining",
    "ratelimit",
    "content-type",
    "grpc-status",
    "x-error-message",
    "date",
    "npm-notice",
];
const VALUES: [&str; 12] = [
    "0",
    "30",
    "-1",
    "1e999",
    "1767225660000",
    "Bearer error=\"invalid_token\", error_description=\"expired, or not\"",
    "\"a\";r=0;t=9",
    "text/html",
    "application/json",
    "16",
    "Thu, 01 Jan 2026 00:00:09 GMT",
    "\"",
];

fn reply(random: &mut Random, real: &[Reply]) -> Reply {
    let mut reply = random.of(real).clone();
    for _ in 0..=random.below(3) {
        match random.below(8) {
            0 => reply.status = random.below(1000) as u16,
            1 => reply.body.truncate(random.below(reply.body.len() + 1)),
            2 => {
                let other = &random.of(real).body;
                let cut = random.below(other.len() + 1);
                let keep = random.below(reply.body.len() + 1);
                reply.body.truncate(keep);
                reply.body.extend_from_slice(&other[cut..]);
            }
            3 => {
                let at = random.below(reply.body.len() + 1);
                reply.body.splice(at..at, random.of(&PIECES).bytes());
            }
            4 => {
                reply.body = (0..random.below(9)).flat_map(|_| random.of(&PIECES).bytes().collect::<Vec<_>>()).collect()
            }
            5 if !reply.body.is_empty() => {
                let at = random.below(reply.body.len());
                reply.body[at] = random.next() as u8;
            }
            6 => reply.headers.push((random.of(&NAMES).to_string(), random.of(&VALUES).to_string())),
            _ => reply.headers = random.of(real).headers.clone(),
        }
    }
    reply
}

/// What a person would take for proof, written without a look at the lexicon.
static DEATH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        "(?i)revo[ck]|withdr|expir|invalidated|deactiv|disabl|delet|suspend|lock|ban(?:ned)?\\b|inactive|not.?active|no.?longer",
        "|remov|terminat|closed|cancel|install|restrict|leak|compromis|exposed|rotat|replac|consent|approv|hasn|factor|mfa|2fa",
        "|2sv|otp|one.?time|sso|single|captcha|step.?up|interaction|log.?in|logged|log.?out|sign.?in|signed|re.?auth|rapt|password|verif",
        "|terms|conditional.access|polic|complian|device|archiv|frozen|user (?:denied|declin)|access.denied|declin|user.?authenticat|authentication level|deauthor|authoriz|claims|checkpoint",
        "|timed.?out|taken.?down|confirmed user|account.state|no_(?:service|active_hooks|team)|webhook|secret.changed|must (?:be|re|change|authenticate)|not enabled|assurance|time frame|have token|allowed\\W+for|not permitted|fully set|access evaluation|reuse",
        "|(?:black|deny).?list|recycled|retired|destroyed|regenerat|reset|evict|purged|unlink|connect|on.hold|ended|membership|unverified|link (?:\\w+ )*again",
        "|deaktiv|gelöscht|suspen|bloqu|désactiv|supprim|desactiv|desativ|eliminad|excluíd|sospes|bloccat|disattivat|geblokkeerd|zablokowan|zawieszon|spärra|avstäng|devre dışı|engellen",
        "|отключ|удален|冻结|凍結|注销|封禁|차단|비활성|udløb|utløp|vanhentun|vyprš|lejárt|kedaluwarsa|dicabut|期限",
        "|abgelaufen|widerrufen|gesperrt|périm|révoqu|revocad|revogad|revocat|caduc|vencid|scadut|verlopen|ingetrokken|wygas|upłyn|cofni|utgå|återkalla|iptal|süresi",
        "|истек|истёк|просроч|отозван|заблокирован|期限|失効|取り消|無効化|停止|过期|過期|失效|到期|超时|吊销|撤销|已撤|被撤|禁用|停用|被封|만료|취소|정지",
    ))
    .unwrap()
});
/// What refuses a refresh token, dead for whatever reason (RFC 6749 §5.2).
static REFUSAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(?i)grant|invalid|unknown|incorrect|not.?found|reus|already|stale|malformed|bad|wrong|reject|refus|fail|recogni|expir|unauth|denied|authenticat|not.?valid|not.?exist|consumed|status 498|ungültig|falsche|invalid|non valid|pas valide|inválid|incorret|ongeldig|nieprawidłow|ogiltig|geçersiz|недействит|неверн|無効|不正|正しくあり|无效|無效|错误|失败|유효하지|잘못된|nicht gefunden|unbekannt|introuvable|inconnu|encontrad|trovat|gevonden|znalezion|hittades|okänd|bulunama|bulunmu|найден|существ|見つかり|存在|找不到|未找到|찾을 수|fehlgeschlagen|échec|échou|fallo|falha|fallita|riuscita|mislukt|błąd|błęd|misslyck|başarısız|hata|ошибка|авторизован|認証|ログイン|登录|登入|未登录|실패|오류|sikertelen|helytelen|érvénytelen|log.?in|sign.?in|fehlerhaft|erron|errad|errat|felaktig|yanlış|некорректн|有误|不合法|틀렸|mismatch|no.such").unwrap()
});

fn accepted(verdict: &Verdict, presented: &str, surface: Surface, body: &str) -> bool {
    let grant = matches!(presented, "refresh_token" | "session_token" | "service_account_jwt")
        && (surface == Surface::TokenEndpoint || presented == "refresh_token")
        || verdict.evidence.to_lowercase().replace([' ', '+'], "_").contains("invalid_grant")
        || verdict.evidence.to_lowercase().replace(['_', ' ', '"', '\\'], "").contains("refreshtoken");
    DEATH.is_match(&verdict.evidence)
        || (grant && REFUSAL.is_match(&verdict.evidence))
        // The person said no (RFC 8628 §3.5).
        || (matches!(presented, "device_code" | "authorization_code") && verdict.evidence.to_lowercase().contains("denied"))
        // What looked like a secret was cut out of the quotation; then the whole reply must say it.
        || (verdict.evidence.contains('…') && (DEATH.is_match(body) || body.contains("invalid_grant")))
}

fn play(seed: u64, number: usize) {
    let real: Vec<Reply> = REPLIES.iter().flat_map(|file| replies(file)).collect();
    let catalogue = catalogue();
    let providers = ["rfc6749", "slack", "google", "github"].map(|name| catalogue.provider(name).unwrap());
    let mut random = Random(seed);
    let mut unproven: BTreeMap<String, String> = BTreeMap::new();
    for made in 0..number {
        let reply = reply(&mut random, &real);
        let surface = random.of(&SURFACES).1;
        let presented = *random.of(&PRESENTED);
        let provider = &providers[if random.below(4) > 0 { 0 } else { random.below(4) }];
        let verdict = provider.classify(&Refusal { surface, presented, reply: &reply, now: now() });
        if verdict.failure != Failure::CredentialRevoked {
            continue;
        }
        let body = String::from_utf8_lossy(&reply.body);
        let case = || {
            format!("seed {seed}, reply {made}: {presented} {} {:?} {body}\n{verdict:?}", reply.status, reply.headers)
        };
        assert!(reply.status < 500, "a server in trouble: {}", case());
        let page = body.trim_start_matches(['\u{feff}', ' ', '\n']).to_ascii_lowercase().starts_with("<html");
        assert!(!page || verdict.evidence.starts_with("header"), "a page: {}", case());
        if verdict.rule.starts_with("generic/") && !accepted(&verdict, presented, surface, &body) {
            unproven.entry(verdict.rule.clone()).or_insert_with(case);
        }
    }
    assert!(unproven.is_empty(), "without proof:\n{}", unproven.into_values().collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn p6_spliced_and_broken_replies_are_never_a_revocation_without_proof() {
    let long = std::env::var_os("CREDD_LONG").is_some();
    let started = SystemClock.now().boot;
    if long {
        let parts = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for part in 0..parts {
                scope.spawn(move || play(part as u64 + 1, 10_000_000 / parts));
            }
        });
        println!("10,000,000 replies in {:.0} s", (SystemClock.now().boot - started).as_secs_f64());
    } else {
        play(0, 20_000);
    }
}

#[test]
fn the_longest_body_takes_no_longer_than_its_length_allows() {
    // What would explode if anything were read twice for each of its parts.
    let provider = catalogue().provider("rfc6749").unwrap();
    for piece in ["[", "{\"a\":", "<a>", "\"", "token ", "a=", "\\", "error not valid or ", "\u{65e0}", ",=\""] {
        let reply = Reply::new(401, [("www-authenticate", piece.repeat(9000).as_str())], piece.repeat(400_000));
        let refusal = Refusal { surface: Surface::Api, presented: "api_key", reply: &reply, now: now() };
        let verdict = provider.classify(&refusal);
        assert!(verdict.evidence.chars().count() < 256);
    }
}
