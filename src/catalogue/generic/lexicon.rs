//! The phrasings of refusals, as one ordered list: the first entry that is found anywhere in a reply decides.
//!
//! Codes and sentences are read alike, as lower-case words, so that `TOKEN_EXPIRED`, `ExpiredTokenException` and
//! "The token has expired" are one thing. Order is meaning: causes before symptoms, the particular before the general.

use super::phrase::{
    Entry,
    Meaning::{
        Ambiguous, Challenge, Config, Dead, DeadGrant, Expired, ExpiredOrDead, Feature, InvalidGrant, Money, Network,
        Pending, Rate, Rejected, Scope, Skew, Unavailable, Unrelated,
    },
    entry,
};

/// The list. Earlier wins.
pub static ENTRIES: &[Entry] = &[
    entry("form_nonce", Unrelated, r"cookie (?:\w+ ){0,2}nonce|(?:form|page|wp|ajax) nonce"),
    entry(
        "use_dpop_nonce",
        Skew,
        r"use dpop nonce|nonce (?:is )?required|requires nonce|stale nonce|(?:invalid|bad|expired) nonce",
    ),
    entry("dpop_proof", Skew, r"dpop proof .*(?:past|future|expired|old|iat)|invalid dpop proof"),
    entry(
        "clock_skew",
        Skew,
        r"\bskew(?:ed)?\b|clock (?:is )?(?:drift|off|out|not|wrong)|time difference|request time (?:too|is)|not yet (?:valid|current|active|effective)|(?:issued|iat|nbf|created|timestamp|valid from)\b.*\bfuture|used before|not (?:be )?valid (?:before|until|yet)|(?:ahead of|behind) (?:the )?(?:server|current|actual|our)|signature (?:has )?expired .*(?:earlier|later)|time ?stamp (?:\w+ ){0,5}(?:expired|invalid|stale|too|incorrect)|(?:expired|invalid|stale|bad) (?:request )?time ?stamp|invalid nonce|nonce (?:is )?too (?:low|small|old)|nonce (?:\w+ ){0,3}(?:increas|already|greater)|in a reasonable timeframe|check your iat|timestamp.*(?:out of|outside|not within|too (?:old|far)|window|range)|(?:out of|outside|not within) .*(?:recv ?window|time window)|date header.*(?:too|differs)|timestamp refused|\bexp(?:iration)?\b.*\bfuture|message (?:has )?expired\b|time ?stamp (?:is )?(?:expired|refused)|request (?:time ?stamp|date|nonce) (?:\w+ ){0,2}expired|jwt not active|system (?:clock|time)|local time (?:is )?(?:\w+ )?(?:correct|wrong)|used too early|(?:request|query|call) (?:is |was )?out of time|nonce (?:is )?small\b|nonce (?:\w+ ){0,2}(?:decreas|not increas)\w*|(?:request|timestamp|nonce) (?:is |was )?too far in the (?:past|future)|(?:request|message) (?:is |was )?too old\b",
    ),
    entry(
        "client_assertion_stale",
        Skew,
        r"client assertion.*(?:expired|stale|too far|time range|replay|already|reused|not within|too old)|(?:expired|replayed|stale) client assertion|\bjti\b.*(?:already|replay|reused|used)",
    ),
    entry(
        "key_in_use",
        Pending,
        r"(?:key|request) in use|idempoten\w+.*(?:in ?progress|in use|processing)|another (?:\w+ ){0,2}in ?progress",
    ),
    entry(
        "suspended_unpaid",
        Money,
        r"(?:blocked|locked|suspended|disabled|deactivated|restricted|frozen|closed|inactive)(?: \w+){0,3} (?:due to|because(?: of)?|for|until|owing to)(?: \w+){0,3} (?:unpaid|overdue|non ?payment|billing|outstanding|past due|payments?|invoices?|arrears|delinquen\w*|(?:expired |ended |inactive )?(?:subscription|trial|licen[sc]e)|insufficient (?:funds|balance|credits?))",
    ),
    entry(
        "reconnect",
        Dead,
        r"re ?connect(?:ed|ing)? (?:\w+ ){0,4}(?:account|app|application|integration|connection|bank|institution|store|item|workspace)\b|re ?link (?:\w+ ){0,3}(?:account|app|bank|item)\b|re ?install (?:\w+ ){0,3}(?:app|application|integration)\b|re ?grant (?:\w+ ){0,3}(?:access|permissions?|consent)|(?:connect|link|authori[sz]e) (?:\w+ ){0,5}(?:again|once more|anew)\b|(?:until|till|unless|before) (?:you|they|the user|user) (?:log|sign)s? ?(?:in|on)\b|(?:user|customer|owner|merchant|member)s? (?:must|needs? to|has to|have to|should) (?:\w+ ){0,2}(?:re ?connect|re ?authori[sz]e|re ?authenticate|re ?link|re ?install)|(?:user|customer|owner|merchant|member|seller|admin\w*|account holder|psu)s? (?:must|needs? to|has to|have to|should|is required to) (?:\w+ ){0,2}(?:generate|sign in|log ?in|authenticate|grant|consent|approve|renew|re ?grant)\b",
    ),
    entry(
        "agreement",
        Money,
        r"agreements? (?:\w+ ){0,6}(?:missing|expired|not|pending|unsigned)\b|(?:missing|unsigned|required|outstanding) agreements?\b|(?:sign|accept|review) (?:\w+ ){0,4}agreements?\b",
    ),
    entry(
        "other_token",
        Unrelated,
        r"(?:parameter|field|argument|property|column|attribute) (?:key|token|password|secret|code) (?:is )?invalid|(?:page|sync|continuation|pagination|next page|cursor|csrf|xsrf|push|device|registration|captcha|recaptcha|upload|change) tokens?\b|\bcrumb\b|\bcsrf\b|\bxsrf\b|cross site request forgery|(?:idempotency|partition|primary|foreign|object|sort|cache|duplicate|unique|row) keys?\b|(?:invalid|unexpected|illegal|unknown) (?:token|character|symbol|identifier) (?:\w+ ){0,4}(?:at|in) (?:position|line|column|offset|expression|query|json|formula|filter)\b",
    ),
    entry(
        "content_policy",
        Unrelated,
        r"content (?:polic|filter|moderat|management)\w*|(?:content|input|output|prompt|message|text|image)s?(?: \w+){0,6} flagged|flagged (?:as|by|for) (?:\w+ )?(?:safety|content|moderation|harm\w*|unsafe)|moderation|responsible ai|\bsafety\b|inappropriate|prohibited content|copyright",
    ),
    entry(
        "method_not_allowed",
        Unrelated,
        r"method (?:is )?not (?:allowed|supported|implemented)$|(?:does not|doesnt|not) support (?:the )?(?:\w+ ){0,3}method|unsupported (?:http )?method|method not allowed for",
    ),
    entry(
        "blocked_by_recipient",
        Unrelated,
        r"blocked by (?:the )?(?:user|recipient|other user|contact)|(?:bot|user|recipient) (?:was |has )?(?:kicked|blocked|opted out|unsubscribed)|user is deactivated|recipient (?:\w+ )?(?:blocked|deactivated|disabled)",
    ),
    entry(
        "card",
        Unrelated,
        r"\bcard (?:\w+ ){0,3}(?:expired|declined|invalid|lost|stolen)|expired card|card ?expired",
    ),
    entry("signature_expired", Skew, r"(?:request |the |your )?signature(?: of \w+)? (?:is |has |was )?expired?\b"),
    entry(
        "account_locked",
        Dead,
        r"(?:account|user) (?:is |has been |was |is currently )?(?:locked|blocked) (?:out )?(?:due to|because|for|after)|(?:account|user)(?: \w+){1,2} (?:is |has been |was )?locked (?:out )?(?:due to|because of|for|after)|(?:client|user|account|app|application|key|token|merchant|organi[sz]ation) (?:associated|related|linked|connected|belonging|registered|used|tied)(?: \w+){1,6} (?:is |was |has been )(?:blocked|disabled|deactivated|suspended|deleted|removed|banned|locked|inactive)\b",
    ),
    entry(
        "version_exists",
        Unrelated,
        r"publish over|previously published|already (?:been )?(?:exists?|published|uploaded|taken|in use)|version (?:\w+ ){0,3}(?:exists|immutable)|(?:file ?name|version)(?: \w+){0,4} (?:reused|already)",
    ),
    entry(
        "client_secret_expired",
        Dead,
        r"client secret.*\bexpired|expired client secret|client (?:certificate|credentials?) (?:has |have |is |are )?expired",
    ),
    entry(
        "project_unknown",
        Config,
        r"project (?:\w+ )?(?:not found|does not exist|doesnt exist)|consumer invalid|(?:principal|application|resource)(?: \w+){0,8} (?:was |is )?not found in the (?:tenant|directory)|(?:project|app|application|client)(?: \w+){0,12} not (?:been )?linked|not registered (?:on|in|with|for) (?:the |this |your )?(?:app|application|client|tenant)\b|client id (?:is )?not registered|(?:invalid|unknown|incorrect|wrong) merchant (?:account|id)\b|tenant (?:\w+ ){1,4}not found\b",
    ),
    entry(
        "authorization_scheme",
        Config,
        r"(?:missing|invalid|unsupported|wrong|unknown|unexpected)(?: or invalid)? (?:authorization|authentication|auth) (?:scheme|type|method)|(?:authorization|authentication|auth) (?:header|scheme)(?: \w+){0,3} (?:must|should|format|needs? to)|must (?:be|start|begin) (?:in the )?(?:format|form|with)(?: \w+){0,2} bearer|bearer prefix|bad authorization header|(?:key|token|credential|header|jwt|secret)s?(?: \w+){0,3} (?:format|form|length|prefix) (?:is )?(?:invalid|incorrect|wrong|bad|not)|(?:invalid|bad|wrong|incorrect|unexpected) (?:\w+ ){0,3}(?:key|token|credential|header|jwt|authorization) (?:format|form|length|prefix|type)|not (?:a )?(?:well formed|properly formatted|correctly formatted)|not well formed|contains? (?:invalid|illegal|non ascii) char|invalid (?:token|basic|bearer|jwt) header|(?:token|key|header|credentials)(?: \w+){0,2} should not contain",
    ),
    entry(
        "nothing_presented",
        Config,
        r"full authentication is required|credentials? (?:were |was |are )?not (?:found|provided|supplied|sent|present)(?: (?:in|on|with|this|please)\b|$)|(?:could not|couldnt|cannot|unable to|failed to|did not|didnt) (?:find|locate|detect) (?:\w+ ){0,3}<token> (?:\w+ )?in (?:the |your )?(?:request|headers?|authorization)|\bno (?:\w+ ){0,3}<token> (?:was |were )?(?:found |present |provided |sent |included )?(?:in|with|on) (?:the |your )?(?:request|headers?)\b",
    ),
    entry(
        "client_credentials",
        Config,
        r"(?:missing|invalid|incorrect|bad|wrong|unknown)(?: or (?:missing|invalid|incorrect))? client (?:id|secret|identifier)\b|app ?secret ?proof|secret hash|client (?:\w+ ){0,2}(?:does not|doesnt) exist|not exist client|^(?:the |this )?(?:provided |given |supplied |refresh |access |authorization )*(?:token|grant|code) (?:is |was )?(?:not (?:linked|issued|bound|assigned|granted) to|(?:issued|bound|linked) (?:to|for) (?:another|a different|other)) ",
    ),
    entry(
        "listed_causes",
        Ambiguous,
        r"(?:invalid|malformed|incorrect|unknown|not valid|missing|wrong|unrecognized|not found)(?:(?: access| refresh| api| auth| authorization| token| key| header| or| and| is| an| a| the| has| been)){0,6} or (?:has |have |is |been |was |an? |the |token |key |session |credential |it )*(?:expired|revoked|invalid|malformed|missing|disabled|deleted|inactive)|(?:expired|revoked|missing)(?: or| and)? (?:is |has |been )*(?:invalid|malformed|otherwise|incorrect|unknown)|(?:expired|revoked|missing) or (?:is |has |been |an? |otherwise )*(?:invalid|malformed|incorrect|unknown|not valid)|invalid (?:\w+ ){1,5}or (?:permissions?|scopes?)\b|may (?:have|be)(?: been)? (?:expired|revoked|invalid)|invalid expired (?:or )?revoked|missing authorization header or invalid|(?:invalid|incorrect|malformed|unknown|missing|not valid) (?:expired|revoked)\b|(?:invalid|incorrect|wrong|unknown) (?:app|application|account|project|user|key|access key) (?:id|name|sid) (?:or|and|and or) (?:\w+ )?(?:key|token)\b|(?:<INVALID>) (?:ou|o|oder|of|lub|или|eller|veya|oppure)(?: \w+){0,2} (?:<EXPIRED>)|(?:<EXPIRED>) (?:ou|o|oder|of|lub|или|eller|veya|oppure)(?: \w+){0,2} (?:<INVALID>)|(?:<INVALID>) ?(?:或|または|又は|もしくは|か).{0,12}(?:<EXPIRED>)|(?:<EXPIRED>) ?(?:或|または|又は|もしくは|か).{0,12}(?:<INVALID>)|invalid or no longer (?:valid|active)|invalid (?:\w+ ){1,6}or (?:\w+ ){0,2}(?:locked|expired|disabled|inactive|revoked|deleted|suspended)\b|(?:not found|not exist|unknown|not valid) or (?:\w+ ){0,3}(?:expired|revoked|disabled|inactive|deleted)\b|(?:deactivated|disabled|inactive|suspended|deleted|removed|locked|blocked|cancell?ed|closed|expired|revoked|unlinked)(?: \w+){0,3} or (?:\w+ ){0,4}(?:invalid|not exist|doesnt exist|incorrect|unknown|not found|malformed|mistyped|wrong|never existed|not recogni[sz]ed|not valid)\b|(?:invalid|incorrect|wrong|unknown|not found|not recogni[sz]ed|not valid|malformed|mistyped|does not exist|doesnt exist)(?: \w+){0,4} or (?:\w+ ){0,5}(?:expired|revoked|disabled|deactivated|suspended|deleted|removed|locked|blocked|inactive|not active|closed)\b|\beither\b.*\b(?:wrong|invalid|incorrect|bad|missing|unknown)\b.*\bor\b.*\b(?:expired|revoked|disabled|deleted)\b|\beither\b.*\b(?:expired|revoked|disabled|deleted)\b.*\bor\b.*\b(?:wrong|invalid|incorrect|bad|missing|unknown)\b|missing (?:\w+ ){1,3}or (?:failed|incorrect|invalid|expired|bad|wrong)\b|(?:invalid|unauthori[sz]ed|incorrect|bad|wrong) (?:\w+ ){0,2}<token> or (?:incorrect|invalid|missing|malformed|bad|wrong|expired)\b|(?:<INVALID>)\w* (?:ou|o|oder|of|lub|или|eller|veya|oppure|och|nebo|vagy|sau|або|atau)(?: \w+){0,2} (?:<EXPIRED>|<REVOKED>)|(?:<EXPIRED>|<REVOKED>)\w* (?:ou|o|oder|of|lub|или|eller|veya|oppure|nebo|vagy|sau|або|atau)(?: \w+){0,2} (?:<INVALID>)|(?:invalid|incorrect|malformed|unknown) (?:has|have|is|was) (?:been )?(?:expired|revoked|disabled|deleted)\b|(?:bad|wrong|incorrect|expired) or missing\b|(?:bad|invalid|incorrect|wrong) (?:\w+ ){1,4}or (?:\w+ ){0,2}(?:timed out|time out)\b|(?:invalid|incorrect|wrong) or (?:\w+ ){0,4}not (?:been )?(?:enabled|activated)\b",
    ),
    entry(
        "expired_or_revoked",
        ExpiredOrDead,
        r"失效|(?:expired|revoked|deleted|disabled)(?: has| been| is| was)* or (?:has |have |been |was |is )*(?:expired|revoked|deleted|disabled|inactive|logged out|signed out|terminated|invalidated|removed|rotated)",
    ),
    entry(
        "consent_denied",
        Dead,
        r"(?:user|owner|customer|resource owner)(?: has| have)? (?:denied|declined|rejected|refused|cancelled|canceled)(?: \w+){0,4} (?:authori[sz]ation|access|consent|request|permission)|(?:authori[sz]ation|access|consent|request)(?: \w+){0,3} (?:denied|declined|refused|rejected) by (?:the )?(?:end )?(?:user|resource owner|owner)",
    ),
    entry(
        "refresh_token_reused",
        DeadGrant,
        r"refresh token.*(?:already|reus|replay|previously used|rotated|stale|consumed)|(?:reuse|replay)(?:d| of)? .*refresh token|token reuse",
    ),
    entry(
        "refresh_token_dead",
        DeadGrant,
        r"(?:invalid|unknown|bad|expired|incorrect|malformed|revoked|inactive|wrong|unrecognized)(?: or \w+)? refresh token|refresh token(?: \w+){0,3} (?:invalid|unknown|expired|incorrect|malformed|not found|invalidated|revoked|not valid|does not exist|doesnt exist|inactive|not active|not recognized)|no (?:valid|active|such|matching) refresh token",
    ),
    entry(
        "limited",
        Rate,
        r"banned until|way too (?:many|much)|temporary lockout|too many failed|blocked (?:due to|because of|for) (?:exceeding|too many|excessive)|(?:exceeding|exceeded|exceeds) (?:the )?(?:usage|allowed|concurrency|concurrent)|call volume|spike ?arrest|quota violation|login attempts exceeded",
    ),
    entry(
        "ip_not_allowed",
        Network,
        r"\bip\b(?: address(?:es)?)?(?: \w+){0,8}? (?:not|isnt|allow ?list|allow|whitelist|restrict|restricted|block|blocked|denied|forbidden)|allow ?list|white ?list|access list|ip ranges?|network settings|(?:check|verify) your network|\bvpn\b|proxy detected|(?:origins?|referr?ers?|referrals?|cors|websites?|callers? host)(?: \w+){0,6} (?:not|isnt|blocked|denied|forbidden|restricted|disallowed)|\bip (?:not|restrict|restricted|restriction|restrictions|address not|blocked|denied|mismatch)|(?:unauthorized|blocked|invalid|forbidden|disallowed|untrusted) ip\b|unrecognized ip|from (?:this|your) (?:ip|location|network)|from location|not (?:accessible|allowed|permitted|available) from|<NOT_LISTED>|\bip\b(?: address)?(?: \d+){0,8} (?:do |does |has |have )?(?:dont|doesnt|not|no|cannot|cant|isnt)\b|(?:unrecogni[sz]ed|unknown|unregistered|unauthori[sz]ed|untrusted|invalid|illegal|blocked|forbidden|disallowed|banned|new) (?:\w+ )?ip\b|\bip (?:is )?(?:banned|blacklisted|unregistered|unauthori[sz]ed|untrusted|invalid)|(?:add|authori[sz]e|register) (?:\w+ ){0,4}\bip\b|unmatched ip|bound ip|\bip (?:does not|doesnt|not) ?match|\bip mismatch|\bip (?:address )?(?:is |was |has been )?(?:rejected|refused|disallowed)\b|(?:see|check|violat\w*|due to|because of|by) (?:\w+ ){0,3}(?:url|domain|referr?er|origin|ip|host|network|address) restrictions?\b|(?:calling|request|client|source|remote|your) ip (?:\w+ ){0,4}(?:allowed|permitted|registered|authori[sz]ed|trusted)\b|not an? (?:\w+ )?(?:verified|registered|allowed|trusted|whitelisted|permitted) ip\b|\bhost access denied\b",
    ),
    entry(
        "network_policy",
        Network,
        r"firewall|virtual network|\bvpc\b|vpc service|private (?:link|endpoint)|public (?:network )?access (?:is )?(?:disabled|not)|network (?:polic|rule|access|security)|security policy violated|prohibited by organizations? policy|\bwaf\b|request (?:was |has been )?blocked|blocked by security",
    ),
    entry(
        "region_not_allowed",
        Network,
        r"(?:country|region|territory|location|jurisdiction)(?:<gap>) (?:not|isnt|unsupported|restricted|blocked)|unsupported (?:country|region|location)|not (?:supported|available) in (?:your|this) (?:country|region)|geo ?(?:block|restrict|fenc)|sanction|unavailable for legal|(?:from|in) (?:your|this) (?:country|region|location) (?:\w+ ){0,2}(?:prohibited|forbidden|denied|disallowed)|(?:restricted|limited) to (?:\w+ ){0,4}(?:regions?|country|countries|territor\w+)\b",
    ),
    entry("client_request_loop", Rate, r"request loop"),
    entry(
        "quota_or_credit",
        Money,
        r"insufficient (?:quota|credits?|funds|balance|tokens balance)|(?:not (?:have )?)enough (?:credits?|balance|funds)|out of credits?|(?:current|this) (?:month|billing \w+) .*upgrade|(?:active|paid|valid|premium) (?:subscription|plan|license|licence) (?:is )?(?:needed|required|necessary)|(?:requires?|need|needs|upgrade to|only (?:available|accessible) (?:on|to|for|in|with)|available (?:only )?(?:on|in|for|with)|not (?:included|available|part) (?:in|on|for|of)) (?:an? |the |your |our |current )*(?:\w+ ){0,3}(?:plan|plans|subscription|tier|tiers|edition|license)\b|plan ?(?:restricted|required|upgrade|not allowed)|(?:free|trial|basic|current|your|this) (?:\w+ )?(?:plan|tier|subscription|edition) (?:\w+ ){0,3}(?:not|cannot|does|doesnt|only|allow|include|permit)|licen[sc]e (?:is )?(?:non ?compliant|invalid|missing|violation)|no (?:active |valid )?(?:licen[sc]e|subscription)|(?:trial|subscription|plan|account) (?:period )?is over\b|(?:trial|subscription|plan|account) (?:period )?(?:has |is )?(?:ended|lapsed|unpaid|delinquent|past due|overdue)|(?:unpaid|outstanding|open|pay|past due) (?:\w+ ){0,2}invoices?|invoices? (?:\w+ ){0,3}(?:unpaid|overdue|due|outstanding|not (?:been )?paid)|suspended (?:for|due to) (?:non ?payment|billing)|non ?payment|upgrade (?:required|needed)|pay as you go|\btop ?up\b|\brecharge\b|欠费|余额不足|餘額不足|credit balance|(?:out of|no(?: more)?|not enough|insufficient|exhausted|remaining|run out of|add more|purchase|buy) (?:\w+ )?credits?\b|credits? (?:\w+ )?(?:exhausted|depleted|too low|insufficient|required|limit)|billing (?:hard limit|not active|disabled|is not|account|inactive|required)|billing to be enabled|plan and billing|payment (?:is )?required|past due|usage cap|maximum credits|\bunpaid|\boverdue|arrears?|spend(?:ing)? (?:limit|cap)|monthly spend|(?:usage limits?|budget) .*regain|specified .*usage limits?|balance (?:is )?(?:too low|insufficient|not enough|exhausted)|(?:plan|trial|subscription|license|licence) (?:has |is |have |was |been ){0,2}(?:expired|ended|inactive|required|cancell?ed|lapsed|does not|doesnt|not)|plan (?:limit|does|has)|(?:add|update|no|missing|valid|set up) (?:an? )?(?:\w+ )?payment method|payment method (?:\w+ )?(?:required|missing|needed|failed)|hard limit reached|upgrade (?:your )?(?:account|plan|subscription)(?: to)? (?:access|use|unlock|enable)|credits? (?:\w+ ){0,2}exceeded|until (?:\w+ )?credits? (?:are|is) (?:added|purchased)|(?:monthly|annual|yearly|lifetime|free|included)(?: \w+){0,3} (?:quota|limit|allowance|usage|credits?)(?: \w+){0,8} (?:upgrade|change|switch|buy|purchase|contact sales|billing)|(?:change|switch|upgrade) (?:your )?plan to|(?:trial|payment details) (?:\w+ )?(?:expired|not entered)|\bcaps? (?:\w+ )?(?:exceeded|reached|hit)|(?:premium|subscription|enterprise|paid plan|upgrade|licen[sc]e|payment|purchase) (?:\w+ )?(?:is )?required\b|(?:quota|plan|credits?|package|balance|prepaid) (?:\w+ ){0,2}run ?out|(?:service|package|contract|licen[sc]e|trial) (?:has |is |was )?expired|\bno (?:\w+ )?(?:money|funds)\b|(?:account|customer|user|organi[sz]ation|workspace|tenant|merchant)s? (?:\w+ ){0,3}(?:in debt|in arrears|delinquent|suspended (?:for|due to|because of) (?:\w+ )?(?:payment|billing))|billing (?:\w+ ){0,2}(?:not (?:been )?(?:enabled|set ?up|configured)|problem|issue|failed)|enable billing|<UNPAID>|(?:contacts|subscribers|users|seats|projects|members|records|items|lists|workspaces|agents|apps|domains|websites|stores|campaigns|devices)(?: \w+){0,3} (?:for|on|of|by|in|under) (?:your|this|the) (?:\w+ )?(?:plan|subscription|tier|package|licen[sc]e)\b|update your (?:billing|payment)|licen[sc]e key (?:has |is )?expired|(?:does not|doesnt|do not|dont|not) have (?:an? )?(?:\w+ ){0,3}(?:licen[sc]e|subscription)\b|(?:plan|subscription|licen[sc]e) (?:is |was )?(?:missing|not found|not active|invalid)\b|(?:must|need to|needs to|have to|has to|please) (?:\w+ )?subscribe\b|payment (?:method |account )?(?:issue|problem)s?\b|(?:billing|payment) (?:details|information) (?:\w+ ){0,3}(?:missing|required|update|invalid)|related to your payment|(?:calls|requests|queries|hits|units|characters|searches|lookups|messages) per month\b|(?:subscription|plan|contract|licen[sc]e|trial)s? (?:\w+ ){0,2}(?:suspended|paused|on hold|terminated|stopped|deactivated)\b|(?:wallet|prepaid|account) (?:balance|credit) (?:\w+ ){0,3}(?:low|empty|zero|insufficient|exhausted|negative)|(?:exceed\w*|over|beyond) (?:your |the )?(?:current )?plans? (?:\w+ ){0,2}(?:usage|quota|credits?|monthly|allowance)|subscription (?:\w+ ){0,2}disabled\b",
    ),
    entry(
        "resource_quota",
        Money,
        r"(?:message|storage|seats?|user count|project|repository|disk|space|resource|file|license) (?:limit|quota)(?: \w+)? (?:exceeded|reached|exhausted)|(?:storage|disk|space) (?:is )?(?:full|exceeded)|insufficient (?:space|storage)|exceeded quota .*requested|(?:max|maximum)(?: number of| amount of)? (?:serverless |active |\w+ )?(?:index\w*|projects?|users?|seats|members|databases?|instances?|buckets?|repositor\w*|keys|apps?|workspaces?|items?|records?|devices?|files?|collections?)(?: \w+){0,3} (?:allowed|reached|exceeded)|reached (?:the |your )?(?:max\w*|limit) (?:number )?(?:of |for )?(?:\w+ )?(?:index\w*|projects?|users?|seats|databases?|instances?|buckets?|workspaces?)|over (?:storage )?quota|out of space|service limits?\b.*\bexceeded|(?:request|ask for) (?:an? )?(?:\w+ ){0,2}(?:limit|quota) increase|(?:vcpus?|cpus?|instances?|addresses|gpus?|vms?|volumes?|networks?|droplets?|functions?|domains?|members?|users?) (?:limit|quota)s? (?:\w+ ){0,2}(?:exceeded|reached)|quota (?:\w+ ){0,3}(?:exhausted|exceeded|reached) .*\bincrease\b|quotas? (?:s )?exceeded for this resource|(?:storage|disk|memory|space|size)(?: \w+){0,20} exceeds? (?:\w+ ){0,4}limit",
    ),
    entry(
        "not_for_this_account",
        Feature,
        r"not available (?:for|to|on|in) (?:your|this) (?:account|organi[sz]ation|workspace|project|application|app|key|channel|tenant)\b|(?:apis?|features?|endpoints?|functionality) (?:has been |is |was )?(?:disabled|turned off|switched off) by\b|not enabled for (?:this|your|the) (?:organi[sz]ation|org|account|workspace|tenant)\b|disabled for (?:this |your |the )?(?:organi[sz]ation|org|workspace|tenant)\b|admin(?:istrator)?s? (?:has |have )?(?:disabled|turned off|switched off|blocked) (?:\w+ ){0,3}(?:apps|features?|apis?|services?|integrations|tokens|keys)\b|(?:tokens|keys|apis?|integrations) (?:are |is |have been |has been )(?:disabled|turned off|blocked) by (?:the |your |an? )?(?:\w+ )?(?:admin\w*|organi[sz]ation|policy|owner)\b",
    ),
    entry(
        "overloaded",
        Unavailable,
        r"over capacity|overloaded|at capacity|circuit ?break|heavy traffic|(?:high|heavy|unusual) (?:demand|load|volume)|(?:system|server|service|engine|backend|model) (?:is )?(?:\w+ )?(?:busy|overload\w*)|too busy|no capacity|data too large .*limit|jwks? (?:\w+ ){0,4}fail",
    ),
    entry(
        "rate_limit",
        Rate,
        r"rate ?limit|ratelimited|throttl|too ?many (?:\w+ )?(?:requests?|attempts?|calls|logins?|failed|login|concurrent|connections|queries|tokens)|(?:request|requests|call|calls|api|application|user|daily|hourly|minute|monthly|query|concurrency|concurrent|usage|token|tokens|throughput|bandwidth|login attempts?|attempts|flood)(?: \w+){0,2} (?:limit|limits|quota|wait)(?: \w+){0,3} (?:reached|exceeded|hit|exhausted)|(?:limit|quota|quotas) (?:has been |is |was )?(?:exceeded|reached|exhausted)|(?:exceed|exceeds|exceeded|over|reached|hit)(?: \w+){0,5} (?:rate|quota|quotas|limit|limits|calls per|requests per|number of \w+ requests|throughput)|quota ?exceeded|(?:rate|throughput|limit) exceeded|resource exhausted|slow ?down|abuse detection|flood ?wait|reduce (?:your |the )?request|number of (?:allowed )?(?:\w+ )?(?:requests|attempts|calls|connections)(?: \w+){0,3} (?:exceeded|reached)|attempts exceeded|budget exhausted|(?:try again|retry) (?:in|after) \d|over (?:request|email|sms) (?:rate )?\w*limit|requests? too (?:frequent|often|fast|quickly)|too (?:frequent|fast|quickly)|request frequency|(?:usage|request|api|call) limits?(?: \w+){0,3} (?:met|used|passed)|reach(?:es|ing)? (?:the |your )?max\w*|(?:exceed\w*|over) (?:the )?frequency|flow control|<TOO_MANY>|complexity (?:budget|limit)|max(?:imum)? (?:calls|requests|complexity)|(?:calls|requests|queries|hits) per (?:second|minute|hour|day)(?: \w+){0,3} exceeded|\bover (?:qps|rate)\b|(?:exceed\w*|over|reached|hit|surpass\w*)(?: \w+){0,6} (?:allowance|allocation|qps|qpd|tps|rpm|rps|frequency)\b|(?:allowance|allocation|qps|qpd|tps|rpm|rps|frequency) (?:\w+ ){0,3}(?:exceed\w*|exhausted|reached|over)\b|number of (?:\w+ ){0,2}(?:requests|attempts|calls) exceeds?|over (?:queries|requests|calls) per|call limited|(?:requests?|calls|accesses|queries) (?:are |is |was |were )?(?:being )?(?:limited|restricted) (?:to|per|by rate)|too many times|try again tomorrow|(?:exceeded|reached) (?:the |your )?(?:maximum|max) (?:\w+ ){0,2}(?:requests|calls|queries)|(?:hourly|daily|per minute|per second|burst) (?:\w+ ){0,2}(?:cap|quota|limit|allowance)\b|quota (?:\w+ ){0,4}(?:used up|spent|depleted|consumed)|^(?:qps|rate|tps|rpm|api|request|query) limit$|wait (?:for )?(?:at least )?\d+ (?:s\b|sec\w*|min\w*|ms\b|hours?)|over query limit|frequency limit|limit frequency|usage (?:has been |is |was )?(?:reached|exceeded)|trigger\w* (?:\w+ ){0,3}(?:rate|flow|frequency) (?:limit|control)|limited by (?:\w+ ){0,2}(?:access|call|request)|ban will last|(?:api|access|calls?|requests?)(?: \w+){0,4} has been limited|(?:api|app|isv|user) call limit(?:ed)?\b|quotas? (?:of|for|on) (?:\w+ ){1,4}(?:is |was |has been )?(?:exceeded|reached|exhausted)\b|(?:too|very) (?:quick|frequent)\w* (?:requests|calls)|(?:slow|calm|cool) down",
    ),
    entry("resource_limit", Money, r"max(?:imum)? number of (?:\w+ ){1,3}(?:has been |have been |is |was )?reached"),
    entry(
        "unavailable",
        Unavailable,
        r"overload|capacity (?:exceeded|constraints?|limit)|temporar(?:y|ily) (?:unavailable|overload\w*|failure|error|down|issue|problem)|transient|<UNAVAILABLE>|(?:is|was|are) (?:currently |temporarily )?(?:not available|unreachable|offline)|something went wrong|system error|(?:server|service|system) (?:is )?(?:down|failing|failure)|unable to (?:process|handle|complete) (?:your |the )?request (?:at this time|right now)|an? (?:unknown|unhandled|unexpected) (?:error|exception)|(?:we are|were|we re) (?:\w+ )?(?:experiencing|having)|server ?error|internal (?:server |service )?(?:error|failure|exception)|internal$|internalerror|service ?(?:is )?(?:currently )?unavailable|backend ?error|bad gateway|gateway ?time ?d?(?:out)?|gateway timeout|(?:under|scheduled|for|down for|in) maintenance|maintenance (?:mode|window)|upstream|provider returned error|deadline ?exceeded|timed? ?out (?:while|waiting)|request time ?out|unexpected server|server had an error|we had issues|fatal error|\boutage\b|unknown ?error|try again shortly|currently unavailable|unexpected error has occurred|dependency failed|undergoing (?:\w+ )?maintenance|maintenance (?:is )?(?:in progress|ongoing|underway)",
    ),
    entry(
        "model_tokens",
        Unrelated,
        r"(?:max|maximum|input|output|prompt|completion|context|total|number of|new) (?:\w+ ){0,2}tokens\b|tokens? (?:count|length|limit for model)",
    ),
    entry(
        "browser_challenge",
        Challenge,
        r"just a moment|checking your browser|enable javascript and cookies|attention required cloudflare|browser (?:challenge|check|verification)|bot (?:detection|protection|challenge)",
    ),
    entry(
        "model_not_ready",
        Unavailable,
        r"(?:model|service|server|database|node|cluster|instance) (?:\w+ )?(?:is )?not (?:yet )?ready|model (?:\w+ )?(?:is )?(?:currently )?loading|loading model",
    ),
    entry(
        "authorization_pending",
        Pending,
        r"authorization ?pending|authori[sz]ation is pending|(?:operation|request|transaction|job|import|export) (?:is )?(?:already |still |currently )?(?:in progress|pending|running|processing|being)|not (?:yet )?ready|(?:still|being) (?:processed|processing|created|indexed|provisioned)|in ?progress request|already in progress|key in use|concurrent (?:update|modification|request|write)|(?:old|stale|outdated|wrong) version|version (?:conflict|mismatch)|(?:has been |was )?modified (?:by|since)|lock(?:ed)? by another|optimistic lock",
    ),
    entry(
        "upgrade_offered",
        Money,
        r"upgrade (?:your |the |this |to )?(?:\w+ ){0,3}(?:accounts?|plan|subscription|workspace|organi[sz]ation|team|premium|pro|enterprise|business)\b|(?:only )?(?:available|accessible|enabled) (?:only )?(?:to|for|on|in|with) (?:our |the |an? )?(?:\w+ ){0,3}(?:premium|enterprise|business|paid|paying|pro|professional|plus)\b|(?:enterprise|business|premium|paid|pro) (?:only )?(?:feature|plan|customers?)\b",
    ),
    entry(
        "token_revoked",
        Dead,
        r"<token> (?:has been|was|is) revoked\b|(?:account|user)(?: \w+){0,4} (?:does not|doesnt|no longer) ha(?:ve|s) (?:an? |the |any |this )?(?:\w+ )?(?:token|key) with id",
    ),
    entry(
        "authorization_withdrawn",
        Dead,
        r"(?:authori[sz]ation|access|permission|connection|consent|grant)s? (?:\w+ )?(?:was|has been|is|were|have been|had been) (?:\w+ )?(?:cancell?ed|withdrawn|removed|deleted|terminated|rescinded|severed|unlinked|disconnected)\b",
    ),
    entry(
        "not_installed_or_approved",
        Scope,
        r"(?:admin|administrator|organization|owner)(?: \w+){0,3} approv|not (?:admin )?approved|grant (?:\w+ ){0,5}access to this organization|saml (?:enforcement|sso enforcement)|not assigned|not been granted|hasnt been granted|has not been authorized by|requires? admin|access restricted|not in the authorized list|restricted resource|restricted access|awaiting (?:approval|review)|requires? (?:\w+ ){0,2}approval\b|not configured with (?:\w+ ){0,6}permissions?|unless they are (?:\w+ )?granted|not (?:an? )?(?:direct )?member of (?:an? |the |any )?(?:\w+ )?group",
    ),
    entry("login_required", Dead, r"\blogin required\b"),
    entry(
        "interaction_required",
        Dead,
        r"\bmfa\b|\bre ?verification|additional verification|multi ?factor|two ?factor|second factor|\b2fa\b|\b2sv\b|\botp\b|one time pass|\bsso\b|single sign on|captcha|step ?up|interaction ?required|log ?in again to|consent|user authentication$|authentication level|insufficient claims|claims challenge|conditional access|blocked by .*polic|device is not|device .*(?:state|compliant|managed)|required device|password (?:has |is |was |have )?(?:been )?(?:expired|changed|reset|must (?:be )?(?:change|reset|update)\w*)|(?:changed|reset) (?:the|their|your|or reset their) password|must (?:re ?authenticate|change|reset)|re ?authori[sz]e|reauth|\brapt\b|sign in frequency|verify your (?:account|email|identity|phone)|(?:account|email|user) (?:is )?(?:not |un)(?:verified|confirmed)|email not verified|accept (?:\w+ ){0,4}terms|terms of (?:service|use) .*accept|re ?login|continuous access evaluation|security check\b|account verification|checkpoint required|not (?:yet )?an? (?:confirmed|verified) (?:user|account|email)|\btwo ?step|\b2 ?step (?:auth|verif)|\btotp\b|authenticator (?:code|app)|one time (?:code|password)|(?:confirmed|verified) (?:\w+ )?e ?mail|(?:account|e ?mail|user|api key|identity|phone|business|key)(?: \w+){0,2} (?:has not|hasnt|have not|not) (?:yet )?been (?:verified|confirmed|activated)|(?:key|user|account|e ?mail|identity|phone) unverified|unverified (?:\w+ )?(?:account|user|e ?mail|identity|phone|key)|check your e ?mail to|assurance level|\baal ?\d\b|\bsca (?:required|exceeded|expired|needed)|strong customer authentication|consents? (?:\w+ ){0,2}(?:expired|must be renewed|needs? to be renewed)|two step|verification code required|(?:re ?)?verify (?:yourself|your (?:device|login))|(?:email|phone|identity|account|device|login) verification (?:is )?(?:required|needed|pending)|(?:password|credentials?) (?:\w+ ){0,2}(?:was|were|has been|have been|is) (?:changed|reset)\b|e ?mail (?:address )?(?:is |has )?(?:not |un)(?:yet )?(?:been )?(?:verified|confirmed)|(?:app|application) (?:specific )?passwords? (?:is |are )?(?:required|needed)",
    ),
    entry(
        "refresh_wanted",
        Expired,
        r"(?:tokens?|session|credentials?)(?: \w+){0,3} (?:must|needs? to|should|has to|have to) be (?:refreshed|renewed)|token ?refresh ?required|(?:requires?|needs?|needing) (?:an? |to be )?(?:token )?(?:refresh(?:ed)?|renew(?:al|ed)?)\b|please (?:refresh|renew) (?:\w+ ){0,2}(?:tokens?|session)\b|(?:tokens?|session|jwt)(?: \w+){0,3} no longer valid (?:\w+ ){0,5}expired\b",
    ),
    entry("not_in_cache", Expired, r"not found in cache"),
    entry("not_active", Expired, r"(?:token|session|jwt|assertion) (?:is )?(?:not|no longer) active"),
    entry(
        "account_blocked",
        Dead,
        r"(?:inactive|disabled|deactivated|suspended|deleted|locked|blocked|banned|frozen|restricted|terminated|closed|expelled) (?:<who>)\b|(?:<who>) (?:\w+ ){0,2}?(?:is |has |was |were |are |been |currently |temporarily |permanently )*(?:disabled|deactivated|suspended|deleted|locked|blocked|banned|inactive|removed|terminated|closed|uninstalled|not active|no longer (?:exists|active|valid|a member)|deauthorized|frozen)\b|\bsuspended\b|(?:account|organi[sz]ation|workspace|team|org|tenant) (?:is |has been |was )?(?:temporarily )?restricted|apps? (?:is |was )?(?:not|no longer) installed|(?:application|integration) (?:is |was )?(?:not|no longer) installed|account (?:has been |is |was )?flagged|(?:email|account|user|phone|identity)(?: \w+){0,2} (?:must|needs to|has to) be (?:verified|confirmed|activated)|account (?:is )?not (?:fully )?(?:set ?up|activated|active|enabled|verified)|(?:account|user|member) (?:is )?(?:pending|under review)|(?:account|user) (?:\w+ )?no longer|uninstalled|deauthori[sz]ed|(?:authentication|auth|access|login|oauth)(?: \w+){0,4} not (?:currently )?allowed for (?:this|your) (?:organization|workspace|account)|key based authentication (?:is )?not permitted|logged out|signed out|log ?out|(?:account|user) (?:state|status) (?:is )?(?:invalid|inactive|disabled|not active|suspended)|invalid (?:account|user) (?:state|status)|taken ?down|\blogins? (?:is |has been |was |currently |temporarily )*(?:disabled|deactivated|inactive|locked|blocked|suspended)|(?:accounts?|users?|organi[sz]ations?|org|workspaces?|teams?|tenants?) (?:is |has been |was )?archived|archived (?:account|user|organi[sz]ation|workspace|team)|(?:your|the|this) access (?:has been |was |is |have been )(?:terminated|revoked|suspended|disabled)|<who>(?: \w*\d\w*| [a-f]{4,12}){1,6}(?: \w+){0,2} (?:is|was|has been) (?:\w+ )?(?:disabled|deactivated|suspended|deleted|locked|blocked|banned|inactive|removed|terminated|closed|frozen)\b|(?:store|shop|company|merchant|seller) (?:is |has |been )+closed\b|(?:merchant|subscriber|developer|customer|partner|vendor|seller|company|store|shop|site|domain|profile|subscription key|bot|robot)s? (?:\w+ ){0,2}?(?:is |has |was |been |currently |temporarily |permanently )*(?:disabled|deactivated|suspended|locked|banned|inactive|terminated|frozen)\b|(?:disabled|deactivated|suspended|banned|terminated|frozen|locked|inactive) (?:merchant|subscriber|developer|partner|vendor|seller|bot|robot)\b|(?:disabled|deactivated|suspended|banned|frozen|closed|locked) (?:your|this|the|their) (?:account|user|organi[sz]ation|workspace|app|application)\b|(?:accounts?|users?|organi[sz]ations?|workspaces?|keys?) (?:\w+ ){0,2}on hold\b|memberships? (?:\w+ ){0,2}(?:terminated|ended|revoked|cancell?ed)|<BLOCKED>|(?:merchant|subscriber|developer|customer|partner|vendor|seller|company|store|shop|site|domain|profile|bot|integration|key|token|client|app|application|user|account|credential)s? (?:\w+ ){0,2}?(?:is |are |was |has been )?(?:not|no longer) (?:in an? |in )?(?:active|live|operational)\b|account (?:is )?not (?:yet )?(?:live|approved|activated)\b|activate your (?:account|key|token)|(?:accounts?|users?|partners?|merchants?|sellers?|customers?|tenants?|subscribers?|organi[sz]ations?|members?) (?:\w+ ){0,2}(?:barred|expelled|offboarded|churned|ended|dissolved|rejected)\b|(?:api ?keys?|keys?|tokens?|users?|accounts?|credentials?) (?:is |are |was )?(?:not|no longer) enabled$|password login (?:is )?(?:forbidden|disabled|not allowed)|\bapi frozen\b|(?:account|user|member|profile)s? (?:\w+ ){0,2}(?:is |has been |was )?(?:cancell?ed|deprovisioned|paused|quarantined|decommissioned|revoked)\b|(?:suspended|disabled|deactivated|terminated|cancell?ed|deleted|closed|frozen|inactive) (?:or \w+ )?(?:account|user|organi[sz]ation|merchant|customer|partner)\b|(?:prohibited|banned|blocked|barred|prevented) from (?:signing|logging) ?in\b|\buser ?disable$|no longer an? (?:\w+ )?(?:employee|member|user|admin\w*|customer|partner|part)\b|(?:user|owner|customer|member|merchant|seller|shop|store)s? (?:has |have |was |is )?(?:been )?(?:deregistered|de registered|unregistered|deauthori[sz]ed)\b|(?:apps?|applications?|integrations?|plugins?|bots?) (?:has |have |is |was |are )?(?:not (?:been )?|no longer |never been |un)installed\b",
    ),
    entry(
        "revoked",
        Dead,
        r"revoked|revocation|leaked|compromised|exposed publicly|withdrawn|(?:token|session|grant|key|credential|authorization)(?: \w+){0,3} (?:invalidated|terminated|cancell?ed|rotated|no longer valid|has been deleted|been removed|been replaced)|not authorized application|has not authorized|hasnt approved|not approved this|no longer (?:authorized|has access|valid|exists|active)|(?:unknown|deleted|removed|no such) webhook|webhook (?:\w+ ){0,2}(?:not found|deleted|removed|disabled|gone)|^no (?:service|active hooks|team|service id)$|(?:api key|access token|token|key|credential)s?(?: \w+){0,6}? (?:was|has been|is|were|have been) (?:deleted|removed|deactivated|disabled|rotated|replaced|invalidated|cancell?ed|reset|regenerated|recycled|blacklisted|retired|destroyed|suspended|unlinked|disconnected|evicted|purged|blocked|locked|frozen)|secret changed|token was deleted|<REVOKED>|(?:token|key|credential)s?(?: \w+){0,4} superseded|<token>(?: \w+){0,3} (?:recycled|blacklisted|black listed|denylisted|deny listed|retired|destroyed|regenerated|inactivated|suspended|banned)\b|(?:recycled|blacklisted|denylisted|retired|destroyed|regenerated|suspended|banned|disabled|deactivated|deleted|inactivated) (?:\w+ )?(?:tokens?|keys?|apikeys?|credentials?|secrets?|certificates?)\b|disable the (?:service ?)?key|(?:user|owner|customer) (?:has |have )?(?:disconnected|unlinked|removed|uninstalled) (?:\w+ ){0,3}(?:app|application|integration|access|connection|service|plugin|account)\b|(?:access|authori[sz]ation|connection|integration|permission)s?(?: \w+){0,3} (?:has been|was|were|have been|is) (?:withdrawn|removed|disconnected|unlinked|cancell?ed|rescinded) by|(?:certificates?|keys?|tokens?|credentials?) (?:blocked|frozen|evicted|purged)\b|token evicted|(?:user|owner|customer) (?:has |have )?revoke[ds]? (?:\w+ ){0,3}(?:access|app|application|tokens?|permissions?)\b|(?:tokens?|keys?|credentials?|secrets?|certificates?|passwords?)(?: \w+){0,3} (?:archived|rolled|rotated|decommissioned|obsolete|discontinued|invalidated|(?:end of|its) life)\b",
    ),
    entry(
        "one_time_code_expired",
        Unrelated,
        r"(?:card|coupon|promo\w*|invitation|invite|cursor|page token|continuation token|sync token|snapshot|offer|quote|order|domain|listing|event|meeting|lease|lock|poll|story|upload|download link|link|file|quotation|challenge|voucher|report|export|batch|job|cache|transaction|payment)s?(?: \w+){0,2} (?:is |has |have |been |was |already )*expired|expired (?:card|coupon|cursor|page|link|invitation|invite|offer|upload|sync|lease|order)",
    ),
    entry(
        "expired",
        Expired,
        r"expired\b|\bexpires?d?\b(?: at| on)? (?:\d|in the past)|\bexpire$|\bexpiration (?:time |date )?(?:has )?(?:passed|exceeded|past)|expiry .*earlier|lifetime validation|not valid in the specified time frame|past (?:its|their) (?:expir|lifetime)|(?:token|session|jwt|assertion) (?:is )?(?:no longer|not) active|session (?:has )?timed? ?out|session timeout|outlived|not within its valid time range|exp claim|\bexpires? (?:at|on)\b.*(?:past|ago)|expiredtoken|tokenexpired|(?:expiration|expiry|exp) (?:\w+ ){0,3}(?:passed|past|elapsed)|(?:token|session|key|credential)s? (?:\w+ ){0,6}(?:timed out|lapsed|too old|elapsed)|<EXPIRED>|lifetime (?:has |was |is |been ){0,2}(?:exceeded|passed|over|ended)|exceeded (?:its|the) (?:\w+ )?lifetime|(?:session|token|login) (?:has |is |was )?ended\b|past (?:its |their |the )?expir|reached (?:its|the) expir\w+",
    ),
    entry(
        "request_field",
        Unrelated,
        r"(?:invalid|unknown|unexpected|missing|duplicate|illegal|unrecognized|required) (?:\w+ ){0,3}(?:parameters?|fields?|property|attribute)\b|\bkeys? (?:\w+ )?in (?:the )?(?:\w+ )?(?:payload|body|object|json)|\b(?:parameters?|fields?|attribute|property) (?:\w+ ){0,2}(?:invalid|required|missing|unknown)\b",
    ),
    entry(
        "unknown_key_id",
        Rejected,
        r"invalid session\b|requires? (?:an? )?valid access token\b|invalid client token|invalid access key|access key id (?:\w+ ){0,4}(?:not exist|invalid|not found)|token (?:was |is |has been )?rejected\b|\bno (?:\w+ ){1,2}match(?:es|ing|ed)? (?:this |the |that |your )?(?:\w+ )?(?:token|key|credentials)\b|<token>(?: \w+){0,2} (?:is |are )?(?:not (?:yet )?registered|unregistered)\b|unregistered (?:\w+ )?<token>\b|\bacl not found|no such (?:\w+ )?(?:token|key|credential)\b|(?:token|key) id (?:\w+ )?(?:not found|does not exist|unknown|invalid)|(?:user ?name|e ?mail|login|user)(?: name| address)? (?:or|and|and or) (?:the )?password(?: \w+){0,3} (?:incorrect|invalid|wrong|not)\b|(?:incorrect|invalid|wrong|bad) (?:user ?name|e ?mail|login|user)(?: name| address)? (?:or|and|and or|and slash or) (?:\w+ )?password|(?:provide|supply|send|include|pass|use|enter|supplied|provided|sent)\w* (?:an? |the |your )?(?:correct|proper|right|working|matching|wrong|incorrect|bad) (?:\w+ ){0,2}<token>|(?:user ?name|user) or (?:api )?key (?:is |are )?(?:invalid|incorrect|wrong)|acl token not found|api ?keys? (?:is |are )?not valid\b",
    ),
    entry("scope", Config, r"invalid scope"),
    entry(
        "code_refused",
        InvalidGrant,
        r"bad verification code|(?:invalid|incorrect|wrong|expired|bad) (?:authorization |verification |device )?code\b|code (?:passed )?is (?:incorrect|invalid)|code (?:was |has |been |is ){0,2}already (?:been )?(?:used|redeemed|exchanged|consumed)",
    ),
    entry(
        "token_used",
        Ambiguous,
        r"tokens? (?:has |have |was |is |been )*(?:already|previously) (?:been )?(?:used|redeemed|consumed|exchanged|rotated)|(?:reused|replayed|consumed) tokens?\b",
    ),
    entry(
        "oauth_client",
        Config,
        r"invalid client\b|unauthorized client|(?:direct access|implicit|password|client credentials) (?:grants?|flow) (?:is |are )?(?:not|disabled)|not (?:allowed|enabled|authorized|permitted) (?:for|to use) (?:\w+ ){0,3}(?:grants?|flow)\b|unsupported (?:grant|response)|invalid grant type|grant type (?:not|is not)|redirect ur[il]|invalid target|invalid resource|client (?:id|identifier|secret|secrets|credentials?|authentication)(?:<gap>) (?:invalid|incorrect|wrong|mismatch|not|unknown|missing|required|failed|passed|does|do)|(?:invalid|incorrect|bad|wrong|unknown|missing|mismatched) (?:or missing )?client|incorrect client|(?:invalid|incorrect|wrong|unknown|bad) (?:app|client|consumer|application) ?(?:secret|id|key|credentials?)|client not found|unknown application|application (?:\w+ ){0,4}not found|unregistered (?:client|app)|app (?:not|is not) (?:found|registered|configured)|not registered|bad redirect|pkce|code verifier|(?:device|implicit|authori[sz]ation code|password|ropc|client credentials|refresh token) (?:code )?(?:flow|grant)s? (?:\w+ ){0,4}(?:disabled|not enabled|must be (?:\w+ )?enabled|not supported|unsupported|not allowed|turned off)",
    ),
    entry(
        "api_not_enabled",
        Config,
        r"(?:has )?not been used in project|access ?not ?configured|service ?disabled|api (?:is )?(?:not enabled|disabled|not activated)|enable (?:it|the api)|(?:project|app|application) is not authorized to use this (?:api|service)",
    ),
    entry(
        "organization_unknown",
        Config,
        r"no such (?:organi[sz]ation|project|tenant|workspace|account)|invalid (?:organi[sz]ation|tenant|workspace|project)\b|(?:organi[sz]ation|tenant|workspace) (?:id )?(?:not found|does not exist|is invalid|mismatch|unknown)",
    ),
    entry("insufficient_scope", Scope, r"insufficient ?scopes?\b"),
    entry(
        "authentication_failed",
        Rejected,
        r"unable to authenticate|authentication (?:failed|failure|unsuccessful)|invalid credentials|^authentication (?:is )?required$|(?:log|sign) ?in with (?:the )?(?:proper|correct|valid|right)|request (?:you have made |made )?requires (?:\w+ )?authentication$",
    ),
    entry(
        "missing_scope",
        Scope,
        r"insufficient ?scopes?|(?:missing|required|lacks?|without|needs?|invalid|not granted|no|correct|necessary|additional|following|authentication) (?:\w+ ){0,2}scopes?\b|scopes? (?:\w+ ){0,3}(?:not|required|missing|insufficient|match|is|are|does|doesnt|needed)|for this scope|contain scopes|scope requirement|scope ?mismatch|scope (?:\w+ )?(?:is |was )?(?:not )?(?:granted|authorized)|out of scope|(?:outside|beyond) (?:\w+ ){0,4}scopes?\b|requires? (?:\w+ ){0,7}scopes?|scopes?(?: \w+){0,3} mismatch|missing (?:required |the )?grant\b|(?:<FORBIDDEN>)(?: \w+){0,3} scopes?\b",
    ),
    entry(
        "wrong_kind_of_token",
        Config,
        r"(?:app(?:lication)? only|user|bot|service account|guest|personal|oauth|refresh|id) (?:access )?tokens? (?:\w+ ){0,3}(?:not|cannot|cant) (?:be )?(?:allowed|supported|accepted|used|permitted)|token type (?:\w+ ){0,3}(?:not|invalid|wrong|unsupported|mismatch)|(?:wrong|incorrect|invalid|unsupported|unexpected) (?:token|credential|key) type|not allowed (?:for|with) (?:this )?(?:\w+ )?(?:token|auth\w*|key|grant) type|requires? (?:an? )?(?:user|app|bot|application|server|admin|secret) (?:access )?(?:token|key)\b|(?:publishable|public|anon|client) key (?:\w+ ){0,3}(?:not|cannot|cant)|(?:different|another|other) (?:region|environment|tenant|client|project|issuer|application|app|instance)\b|(?:region|environment|tenant|project|client|application|app|issuer) (?:id )?(?:mismatch|does not match|doesnt match|do not match)|(?:sandbox|test|live|production|staging) environment|client id and .*(?:do not|does not|dont) match|not allowed token type|only (?:\w+ )?(?:access|refresh|user|app|bot|service) tokens (?:are )?(?:allowed|accepted|supported)|unsupported authentication$|supported authentication (?:types?|methods?|schemes?)|(?:keys?|tokens?) (?:\w+ ){0,3}(?:cannot|can not|cant|must not) be used (?:with|for|on|in|by|from)|authenticating with (?:\w+ ){1,5}is (?:forbidden|not)|(?:authentication|auth) (?:type|method|scheme)s? (?:\w+ ){0,3}(?:not (?:supported|allowed|accepted)|unsupported)|requires? (?:an? )?(?:production|live|test|sandbox|personal|service|master|secret|private|server side|project|organi[sz]ation) (?:api ?|access ?)?(?:key|token)\b",
    ),
    entry(
        "api_access_off",
        Feature,
        r"(?:does not|doesnt|do not|dont) have (?:\w+ ){0,4}(?:enabled|activated|turned on)|(?:api )?access (?:is )?(?:not enabled|disabled|turned off|not activated)|api access (?:is |has been |was )?(?:disabled|turned off|switched off|not enabled)",
    ),
    entry(
        "token_missing",
        Config,
        r"(?:\bno|missing|without an?|absent) (?:\w+ ){0,2}(?:access|auth|api|bearer|refresh|oauth) ?(?:tokens?|keys?)\b|missing tokens?\b",
    ),
    entry(
        "wrong_issuer",
        Config,
        r"(?:no|missing|lacks?|requires?|required|mandatory|invalid|unexpected|wrong) (?:\w+ ){0,3}(?:iss|aud|sub|kid|alg|iat|jti|nbf|exp)\b|(?:signature|signing|verification|public|matching|issuer) (?:signing )?key (?:\w+ ){0,3}(?:not (?:be )?found|not match|unknown)|(?:unable|failed|could not|cannot|couldnt) (?:to )?(?:find|locate|resolve|get|match) (?:\w+ ){0,4}(?:signing|public|matching|appropriate|verification|suitable) (?:\w+ )?keys?\b|no (?:applicable|matching|suitable|appropriate) (?:\w+ ){0,2}(?:keys?|jwks?) (?:\w+ ){0,2}(?:found|in|for)|\bkid\b(?: \w+){0,5} (?:not|unknown|invalid|mismatch|no)|\balg(?:orithm)? (?:\w+ ){0,4}(?:not|mismatch|unsupported|invalid)|(?:unsupported|invalid|unexpected|wrong) (?:\w+ ){0,2}alg(?:orithm)?\b|\bjwks? (?:\w+ ){0,3}(?:doesnt|does not) have|\bkey to match\b",
    ),
    entry(
        "permission",
        Scope,
        r"(?:insufficient|missing|lacks?|lacking|not enough|inadequate|required?|requires|no|without|elevated|necessary|sufficient|proper|higher) (?:\w+ ){0,3}(?:permissions?|privileges?|access rights|rights|access|role|roles|entitlements?|authori[sz]ation to)\b|(?:permissions?|privileges?|role|rights) (?:\w+ ){0,2}(?:required|missing|insufficient|needed|not)|(?:not|isnt|arent|cannot be|never) (?:authorized|allowed|permitted|entitled|eligible) (?:to|for|on|access)|does(?: not|nt) have (?:\w+ ){0,4}(?:access|permissions?|privileges?|rights|authori[sz]ation|role|ability|abilities|capability)\b|(?:do not|dont) have (?:\w+ ){0,4}(?:access|permissions?|privileges?|rights|authori[sz]ation|role)|higher privileges|^(?:\w+ )?authorization ?failed$|^authorization request denied$|permissions? (?:\w+ ){1,6}denied|unauthorized to|is unauthorized for|unauthorized exception.*perform|forbidden (?:user|for|by)|forbidden .*cannot|can only be (?:performed|done|used|accessed)|read ?only (?:token|key|access|user|mode)|(?:token|key|user|credential)s? (?:is |are |has )?read ?only|(?:key|token|credential|account)s? (?:do|does) not (?:allow|permit|grant|include|cover)|api unauthorized|not (?:enough|sufficient) (?:rights|access)|access level|not (?:visible|accessible) to (?:you|this)|without (?:\w+ )?permission|access denied (?:exception|insufficient)|not an? (?:\w+ )?(?:collaborator|owner|contributor|maintainer|admin\w*|participant)\b|(?:token|key|credential)s? (?:is |are )?(?:restricted|limited|scoped) to|(?:lacks?|lacking|missing) (?:\w+ ){0,4}(?:ability|abilities|capability|capabilities|rights?|entitlement|claim)\b|not a member|(?:teams?|workspaces?|organi[sz]ations?|projects?|repositor\w+|resources?|operations?|actions?|method|endpoint)(?: s)? (?:is |are )?(?:not|un) ?authorized|unauthorized (?:permission|operation|scope|action|resource|access to)|action is unauthorized|(?:need|needs|needed|require|requires|required|additional|invalid|missing|following|denied) (?:\w+ ){0,4}(?:permissions?|privileges?|roles?)\b|permissions? (?:\w+ ){0,2}(?:needed|error)|permissions? (?:is |are )?invalid|permissions? check fail\w*|(?:dont|do not|doesnt|does not) (?:seem|appear) to (?:be|have)|you (?:cannot|cant|may not|must not|are not able to) (?:consume|use|access|perform|view|edit|update|delete|create|read|write|modify|manage|do)|(?:only|reserved for|limited to|restricted to) (?:\w+ )?(?:admin\w*|owners?|members|staff|managers?)|(?:disallowed|not granted)|access (?:to \w+ )?(?:\w+ )?(?:is |has been )?(?:disallowed|prohibited)|unauthorized to|not have (?:the )?(?:necessary|required|sufficient|proper|right|correct)|\brbac\b|\bacl\b|must be (?:an? )?(?:admin|owner|member)|admin (?:privileges|rights|only)|explicit deny|no identity based policy|not accessible by (?:integration|personal)|app access restricted|role required|insufficient (?:access|permission)|(?:does not|doesnt|do not|not) belong to (?:this |the |your |that |any )?(?:organi[sz]ation|workspace|team|project|account|tenant)|no api ?product match|\b(?:no|lacks?|insufficient|without) authority\b|user permissions\b|(?:access|operation|action|request) (?:\w+ ){0,3}requires? (?:\w+ ){0,4}(?:permissions?|role|rights|privileges?)|(?:should|must|needs? to|have to|has to) be (?:an? |the )?(?:\w+ ){0,2}(?:admin\w*|owner|member|maintainer|manager)\b|(?:access|user)? ?rights? (?:\w+ )?(?:insufficient|missing|denied|required)|insufficient (?:\w+ )?rights?\b|check (?:your|the|that) (?:\w+ ){0,4}permissions|(?:scp|roles?|scope) (?:or \w+ )?claim|\bno ?permissions?\b|(?:do not|dont|does not|doesnt) (?:currently |yet )have (?:\w+ ){0,4}(?:access|permissions?|rights|role)|access (?:control )?exception$|you (?:cannot|cant|may not|are not able to) (?:list|get|retrieve|see|publish|send|download|upload|call|invoke|add|remove|change|assign|approve|manage|query)\b|^not (?:an? )?(?:\w+ )?(?:management|admin\w*|privileged|super) ?user$|(?:url|path|endpoint|route|api|method|operation|product)s? (?:\w+ ){0,3}not (?:in|part of|covered by) (?:your|the|this) (?:\w+ )?(?:scope|permissions?|policy|role)|(?:not|isnt|arent) subscribed to (?:this|the|that|an?) (?:\w+ )?(?:api|product|service|endpoint)|invalid (?:\w+ )?(?:ability|abilities)\b",
    ),
    entry(
        "credential_missing",
        Config,
        r"not found on (?:the )?request|required but (?:not|missing)|(?:failed|unable) to resolve (?:api )?(?:key|token)|(?:api key|access token|bearer token|auth token) (?:must|should|needs? to|has to) be (?:passed|sent|provided|included|supplied|specified|set|present)|(?:api key|access token|bearer token) is (?:needed|required) (?:to|for)|authorization header (?:was |is )?not (?:found|set|present|sent)|<MISSING>|(?:no|missing|empty|without|absent|omitted)(?: required| valid| or)? (?:\w+ ){0,3}?(?:<token>|auth|oauth2? access token|authorization header)\b(?: (?:found|provided|supplied|present|given|specified|in|sent|header|was|were|were not|is))*|(?:<token>|auth|header)(?: \w+){0,2} (?:is |are |was |were )?(?:missing|not provided|not supplied|not present|not specified|empty|absent|not set|required)$|(?:didnt|did not|must|need to|have to|please) (?:\w+ )?(?:provide|supply|include|send|specify|set|add|attach|present) (?:an? |your |the )?(?:\w+ ){0,3}(?:<token>|authorization header)|requires (?:an? )?(?:authentication|valid bearer|authorization|api key|bearer)|(?:header|token|key|credentials?|authorization) (?:is |was |were )?(?:missing|not provided)|credentials were not provided|(?:<token>|headers?) are missing|^not authed$|no authorization|unauthenticated request|anonymous (?:access|caller|user|request)|without (?:a )?(?:valid )?(?:authentication|credentials)|^(?:provide|supply|include|send|pass) (?:an? |your |the )?(?:\w+ ){0,3}(?:<token>|authorization header)|<token> must be (?:passed|sent|provided|included|supplied|specified|present)\b",
    ),
    entry(
        "malformed_credential",
        Config,
        r"malformed (?:\w+ ){0,3}(?:<token>|header|auth)|(?:<token>|header|auth)\b(?: \w+){0,4} (?:is )?malformed|(?:<token>|header)\b(?: \w+){0,3} (?:could not|cannot|cant) be (?:decoded|parsed|read)|(?:cannot|unable to|failed to|couldnt|could not) (?:decode|parse|deserialize|convert|read|extract) (?:\w+ ){0,3}(?:<token>|header)|bad jwt|wrong number of segments|number of segments|not enough segments|header padding|unexpected authentication scheme|unsupported (?:auth\w*|scheme|token type)|invalid (?:authorization|auth) header|not (?:a )?(?:jwt|well formed)|does not match the format|wrong format|invalid format|fingerprint mismatch|unexpected prefix|<token>(?: \w+){0,2} pars(?:e|ing) (?:\w+ )?(?:failed|error)|(?:pars(?:e|ing)|decod(?:e|ing)) (?:\w+ ){0,3}<token>(?: \w+){0,2} failed|<token> (?:length|format) (?:\w+ ){0,2}(?:invalid|incorrect|wrong|error)|<token>(?: \w+){0,4} (?:has |have |is |are |of )(?:the |an? )?(?:wrong|incorrect|invalid|bad|unexpected) (?:length|format|prefix|size)|(?:key|token|密钥|令牌|ak|凭证) ?格式(?:错误|不正确|有误)|not in the (?:\w+ )?(?:form|format)\b",
    ),
    entry(
        "signature",
        Config,
        r"signature (?:\w+ ){0,4}(?:not match|mismatch|does|is invalid|not valid|invalid|failed|failure|verification|incorrect|error)|(?:invalid|bad|incorrect|wrong) (?:\w+ )?signature|signature ?does ?not ?match|signature we calculated|wrong key is being used|(?:payload|string) to sign|\bhmac\b(?: \w+){0,4} (?:invalid|mismatch|failed|not|incorrect|wrong)|(?:invalid|incorrect|bad|wrong) (?:\w+ )?hmac\b|\bsign (?:\w+ ){0,2}(?:error|invalid|fail\w*|incorrect|wrong|not match|mismatch)|(?:invalid|incorrect|wrong|bad) sign\b|\bsignature$|<BAD_SIGNATURE>|signature (?:\w+ ){0,4}conform|incomplete signature",
    ),
    entry(
        "wrong_place",
        Config,
        r"(?:invalid|wrong|incorrect|unexpected|bad|unknown|untrusted|mismatch(?:ed|ing)?) (?:\w+ ){0,2}(?:audience|aud|issuer|iss)\b|\b(?:audience|aud|issuer|iss)\b(?: \w+){0,4} (?:invalid|mismatch|not|wrong|doesnt|does|unknown)|audiences? in jwt|wrong (?:tenant|host|region|environment|endpoint|instance|data ?center|domain)|authentication token tenant|(?:live|test|sandbox|production) (?:mode |key|token|credentials)|mismatch(?:ed)? (?:project|environment|key)|(?:passwords?|basic auth\w*|auth\w*|keys?|tokens?)(?: \w+){0,4} (?:deprecated|no longer supported|sunset)|invalid select|directory not found|unsupported api version|no (?:corresponding|matching) (?:publisher|provider|federated|trust|identity provider)|invalid publisher|trust (?:policy|relationship) (?:\w+ )?(?:not|does)|unknown (?:tenant|realm)|realm (?:does not|not found)|(?:issued|granted) to (?:another|a different)|tenant not found|is not allowed to send|sandbox subdomain|mismatched (?:organi[sz]ation|project|tenant|workspace|app|account|environment)|should match (?:\w+ )?(?:organi[sz]ation|project|tenant|workspace|app|account|environment)|(?:does not|doesnt|do not|dont|not|no) ?match (?:with )?(?:the |this |current |your )*(?:\w+ )?(?:environment|organi[sz]ation|platform|application|domain|bundle|package)\b|\bplat(?:form)? no ?match|\bno (?:\w+ ){0,3}provider (?:was |is )?(?:found|configured|registered|exists)|(?:identity |oidc |openid ?connect )provider (?:was |is )?not (?:found|configured|registered)|\b(?:audience|issuer|tenant) validation (?:\w+ )?failed|(?:password|basic|legacy) auth\w* (?:\w+ )?(?:was|has been|is) (?:removed|retired|discontinued|turned off)",
    ),
    entry(
        "feature_off",
        Feature,
        r"(?:disabled|turned off|switched off|not enabled|blocked|not activated|restricted) by (?:the |an? |your |its )?(?:admin\w*|organi[sz]ation|owner|workspace|account owner|policy)|(?:is|are) not (?:enabled|activated|available) (?:for|on|in|by)|is not enabled|feature (?:is )?(?:not|disabled|unavailable)|not enabled for (?:this|your)|access to this feature|has not been (?:enabled|set up|activated)|access ?limited|not (?:included|available) in your|beta (?:access|only|feature)",
    ),
    entry("invalid_grant", InvalidGrant, r"invalid grant"),
    entry(
        "rejected",
        Rejected,
        r"(?:invalid|incorrect|bad|unrecogni[sz]ed|unknown|wrong|not valid|not a valid|isnt valid|false|illegal|unacceptable)(?: \w+){0,4}? (?:<token>|auth|username|basic auth|pass)\b|(?:<token>)(?: \w+){0,4} (?:invalid|incorrect|not valid|isnt valid|wrong|unknown|not recogni[sz]ed|not found|does not exist|doesnt exist|rejected|refused|failed|failure|unsuccessful|denied|mismatch|inactive|not accepted|not be (?:found|verified|validated|authenticated)|no match)|(?:<token>) not|validation (?:failure|failed) (?:\w+ )?<token>|(?:unable|failed|could not|couldnt|cannot) (?:to )?(?:\w+ )?(?:verify|validate|authenticate|authorize|log ?in)|authentication (?:failed|failure|error|fault|unsuccessful|denied|required|exception)|authorization (?:failed|failure|required)|^authenticate$|unauthenticated|not (?:authenticated|logged in|signed in)|authentication error|login (?:failed|failure|incorrect)|(?:invalid|bad) (?:auth|login|credentials|token|session)|validation failure|unrecognized client|invalid client token|access token validation|user not found|authenticationfailure|invalid ?(?:access|api|auth|bearer)? ?(?:token|key)|(?:<token>) (?:has |have )?failed|not be authenticated|failed ?authentication|must be (?:authenticated|logged in|signed in)|(?:log|sign) in (?:first|to continue|required)|invalid authentication|(?:non existent|nonexistent) (?:authentication|token|key|user)|no (?:matching|such) (?:access )?(?:token|key|session)|<INVALID>|<UNKNOWN>|<REFUSED>|(?:apikey|api key|access key)s?\b(?: \w+){0,3} (?:error|not exists?)\b|(?:invalid|illegal) (?:\w+ )?user\b|<token> error$|(?:user ?name|password)s?(?: \w+){0,4} (?:incorrect|invalid|wrong|mismatch|do not match|does not match|error)|\b(?:auth|authentication|authorization|login|apikey|api key|access token) (?:\w+ ){0,3}(?:errors?|fail\w*|problem)\b",
    ),
    entry(
        "another_wanted",
        Rejected,
        r"\bvalid(?: \w+){0,4}? (?:<token>|auth|username|basic auth|pass)\b|\bvalid authentication",
    ),
    entry(
        "log_in_again",
        Ambiguous,
        r"(?:log|sign) ?in (?:again|anew|once more)|stale (?:\w+ )?token|please (?:log|sign) ?in\b",
    ),
    entry("unauthorized", Rejected, r"unauthori[sz]ed|not authori[sz]ed|authorisation|^401\b"),
    entry(
        "forbidden",
        Scope,
        r"forbidden|<FORBIDDEN>|access (?:\w+ ){0,4}(?:is |was )?denied|denied access|access ?denied|permission ?denied|^denied$|not allowed|not permitted|no access|no permission|access not granted|cannot access",
    ),
    entry(
        "try_later",
        Unavailable,
        r"try (?:again )?(?:your request )?(?:again )?later|please (?:try again|retry)|retry (?:your |the )?(?:request|later)",
    ),
    entry("back_off", Rate, r"back ?off"),
    entry("invalid_request", Config, r"^invalid request$"),
    entry("conflict", Pending, r"conflict"),
    entry(
        "words_of_rights",
        Scope,
        r"\b(?:owners?|admin\w*|permissions?|privileges?|roles?|rights?|scopes?|authori[sz]\w*|entitle\w*|members?|membership|granted|collaborators?|capabilit\w+)\b",
    ),
];
