//! The words of refusals in other languages than English, by what they say: alternatives for the lexicon's patterns.
//!
//! Stems, lower case, as the services of these countries write them: German, French, Spanish, Portuguese, Italian, Dutch,
//! Polish, Swedish, Turkish, Russian, Japanese, Chinese (both scripts), Korean.

/// Over.
pub const EXPIRED: &str = "abgelaufen|expirée?s?\\b|périmée?s?\\b|expirad[oa]s?\\b|expirou|caduc(?:ado|ada|ó)|vencid[oa]|scadut[oa]|verlopen|wygas|upłyn|utgå(?:tt|ngen)|süresi (?:dol|geç)|истек|истёк|просроч|期限.{0,12}切れ|期限切|过期|過期|已到期|(?:token|令牌|会话|登录|票据)已?超时|만료";
/// Taken back.
pub const REVOKED: &str = "widerrufen|gesperrt|révoqué|revocad[oa]|revogad[oa]|revocat[oa]|ingetrokken|cofnięt|återkalla|iptal edil|отозван|заблокирован|失効|取り消され|無効化され|停止され|吊销|撤销|已撤|被撤|被禁用|已禁用|已停用|被封|취소|정지";
/// Not accepted.
pub const INVALID: &str = "ungültig|falsche[rs]? (?:token|schlüssel|passwort)|(?:jeton|token|clé|clef|identifiants?)(?: \\w+){0,3} invalides?|non valid[eo]|n est pas valide|nest pas valide|inválid[oa]|incorret[oa]|incorrect[oa]s?\\b|ongeldig|nieprawidłow|ogiltig|geçersiz|недействит|неверн|無効|不正な|正しくあり|无效|無效|不正确|错误的|校验失败|验证失败|认证失败|鉴权失败|유효하지|잘못된";
/// Rights are missing.
pub const FORBIDDEN: &str = "keine (?:berechtigung|rechte|zugriffs)|nicht berechtigt|fehlende (?:berechtigung|rechte)|zugriff verweigert|(?:droits?|permissions?|autorisations?) insuffisant|navez pas|n avez pas|accès (?:refusé|interdit)|non autorisée?\\b|permisos? insuficientes?|no tiene[s]? (?:\\w+ )?(?:permiso|acceso|autorización)|acceso denegado|sem permissão|não (?:tem|possui) (?:permissão|acesso)|acesso negado|permessi? insufficient|non (?:hai|ha|disponi|dispone) |accesso negato|onvoldoende rechten|geen (?:toegang|rechten|toestemming)|brak (?:uprawnień|dostępu)|saknar behörighet|åtkomst nekad|yetkiniz|yetki(?:si)? yok|недостаточно прав|нет (?:прав|доступа)|доступ запрещ|権限(?:が|は)|アクセス権|アクセスが拒否|权限不足|無權|无权|没有.{0,12}权限|未授权|沒有.{0,12}權限|권한";
/// Too often.
pub const TOO_MANY: &str = "zu viele|trop de |demasiad[ao]s|muitas|troppe|troppi|te veel|zbyt wiele|för många|çok fazla|слишком много|превышен|多すぎ|レート制限|回数制限|上限に達|过于频繁|過於頻繁|请求过多|請求過多|频率(?:限制|超|过)|限流|次数.{0,9}(?:超|上限)|너무 많|요청 한도";
/// The service failed.
pub const UNAVAILABLE: &str = "vorübergehend|nicht (?:verfügbar|erreichbar)|wartungsarbeiten|interner (?:server ?)?fehler|temporairement|indisponible|erreur interne|temporalmente|no (?:está )?disponible|error interno|erro interno|indisponíve|indisponive|errore interno|temporaneamente|non disponibile|niet beschikbaar|interne fout|niedostępn|otillgänglig|hizmet dışı|временно|недоступ|внутренняя ошибка|メンテナンス|一時的に|サーバーエラー|内部エラー|系统(?:繁忙|错误|异常)|服务(?:器)?(?:不可用|繁忙|异常|内部|错误)|維護中|维护中|점검|서버 오류|일시적";
/// Nothing was presented.
pub const MISSING: &str = "(?:token|schlüssel|authentifizierung|anmeldedaten)(?: \\w+){0,2} (?:fehlt|fehlen|erforderlich)|(?:jeton|token|clé)(?: \\w+){0,2} (?:manquante?|requise?|absente?)|(?:falta|falta el|ausente|faltando)(?: \\w+){0,2} token|token (?:ausente|mancante|não informado|no proporcionado)|отсутствует (?:токен|ключ)|未提供|未携带|缺少.{0,12}(?:token|令牌|密钥|认证|access)|トークンが(?:ありません|指定)|토큰이 없";
/// An address that is on no list.
pub const NOT_LISTED: &str = "白名单|白名單|ホワイトリスト|許可されていない ?ip|허용되지 않은 ip|(?:бел|разреш)\\w* спис|ip adresse (?:\\w+ )?nicht|adresse ip (?:\\w+ )?non|(?:dirección|endereço|indirizzo) ip (?:\\w+ )?(?:no|não|non) ";
