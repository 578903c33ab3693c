//! The vocabulary: words and their classes, in the languages in which prompts are attacked.
//!
//! A *class* is a meaning, represented by one bit. An entry is a word, a stem (`ignor*`), or several words joined by `_`. Entries
//! are folded like texts, so they may be written with accents.

/// A set of classes.
pub type Classes = u64;

/// Declares the classes, one bit each, with their words.
macro_rules! vocabulary {
    ($($(#[$doc:meta])* $name:ident: $words:expr;)*) => {
        #[expect(clippy::upper_case_acronyms, reason = "numbers the bits")]
        enum Bit { $($name),* }
        $($(#[$doc])* pub const $name: Classes = 1 << Bit::$name as u32;)*
        /// All classes with their words.
        pub const VOCABULARY: &[(Classes, &str)] = &[$(($name, $words)),*];
    };
}

vocabulary! {
    /// Disregarding instructions.
    IGNORE: "ignore deaktivier* figyelmen_kívül sivuuta unohda ignoră ignorați uită התעלם* תתעלם* שכח* نادیده* فراموش* ละเว้น เพิกเฉย ไม่ต้องสนใจ glem ignora ignorer ignorez ignorieren ignoriere ignorier ignori ignorar ignoren ignorad zignor* disregard disobey forget override overrule bypass circumvent* discard dismiss violate \
        nullify unlearn abandon erase wipe overwrite set_aside put_aside \
        throw_away throw_out scrap_* pay_no_attention no_longer_bound not_bound_by do_away_with break_free free_from \
        free_of clear_your delete_your reset_your drop_your turn_off switch_off disable unbound deactivate remove_all get_rid \
        neglect skip_all skip_your \
        vergiss vergesst vergessen missacht* überschreib* umgeh* verwirf außer_kraft lass_alle leg_alle \
        oublie oubliez oublier contourn* annul* désactiv* passe_outre fais_abstraction ne_tiens_pas_compte ne_tenez_pas_compte \
        olvida olvide olviden olvidad olvidar descarta omite desobedec* anula salta haz_caso_omiso sáltate deja_de_lado desactiv* \
        esqueça esqueçam esquece esquecer desconsidere desconsidera desative desativa deixe_de_lado \
        dimentica dimenticati dimenticare scorda trascura annulla disattiva \
        negeer* vergeet* \
        zapomn* pomiń* anulow* odrzuć obejdź \
        unut* yok_say* yoksay* görmezden* dikkate_alma* göz_ardı* \
        abaikan* lupakan* bỏ_qua quên_* ignorera* glöm* ignoruj* zapomeň* agnoise αγνόησε* ξέχνα* ξέχασε* \
        игнорир* проигнорир* забудь* забыть* отмени* сними* отключи* отбрось* не_обращай_внимания обойди* \
        ігнор* скасуй* \
        忽略 忽视 无视 無視 忘记 忘記 忘掉 忘了 抛开 抛弃 撇开 取消 解除 忽略掉 不用管 不要管 别管 不再遵守 跳过 \
        忘れ 破棄 無効 取り消 従わない 従う必要はない 捨て \
        무시 잊어 잊고 잊으 해제 취소 따르지 무효 \
        تجاهل* انس انسى انسَ اهمل* ألغ* تخطى تخط \
        अनदेखा अनदेखी भूल* नज़रअंदाज़ नजरअंदाज उपेक्षा इग्नोर* रद्द";
    /// Instructions declared void.
    VOID: "void voided revoked suspended superseded nullified cancelled canceled obsolete deprecated lifted disabled deactivated no_longer_apply do_not_apply dont_apply does_not_apply not_apply_to \
        aufgehoben ungültig annulé* levées anulad* canceladas suspendidas revogad* annullat* uchylon* anulowan* iptal* geçersiz* отменен* снят* недействительн* 作废 作廢 失效 已解除 解除 無効 解除されました 무효 해제 ملغاة रद्द";
    /// Ceasing, before FOLLOW.
    STOP: "stop cease quit no_longer never_again anymore hör_auf arrête arrêtez deja_de pare_de smetti przestań перестань прекрати halte_dich_nicht";
    /// Obeying.
    FOLLOW: "follow* obey* comply* adher* heed listening listen respect* abide* observ* befolg* halte* gehorch* suivre suis respecter obéi* seguir siga \
        sigas obedec* seguire segui obbed* respecte stosu* przestrzega* słucha* volgen gehoorza* выполня* следуй* следовать подчин* исполня* соблюда* слуша* 遵守 遵循 服从 执行 従う 従って 따르 따라 복종 \
        uy itaat* uyma* اتبع* نفذ* पालन मानो";
    /// Instructions of a model, by their specific names.
    INSTR: "system_message* system_text* context_window initial_message* developer_message* systeemprompt* utasítás* ohjee* ohjei* anvisning* systemkehote* järjestelmäkehot* הוראות* ההוראות* ההנחיות* دستور* کلمه_به_کلمه คำสั่ง คำแนะนำ instruct* instruç* instruc* istruzion* instrukt* instrukc* instruks* instrucț* guideline* directive* direktiv* prompt prompts systemprompt* preprompt metaprompt \
        anweis* vorgab* anordnung* richtlini* weisung* systemanweis* consigne* directriz* indicacion* orientaç* diretriz* direttiv* indicazion* \
        instrukcj* polecen* wytyczn* richtlijn* talimat* yönerge* komut* perintah* instruksi* pedoman* hướng_dẫn chỉ_dẫn \
        инструкц* указани* промпт* установк* директив* інструкц* вказівк* \
        指令 指示 提示词 提示詞 提示 指引 说明 說明 系统消息 プロンプト インストラクション 命令 지시 지침 프롬프트 명령 \
        تعليمات* التعليمات* توجيه* التوجيه* أوامر* الأوامر* निर्देश* प्रॉम्प्ट* आदेश* οδηγ* εντολ* příkaz* pokyn* instruktion*";
    /// Rules of a model, by names that have other uses.
    RULE: "rules ruleset directions szabály* sääntö* säännöt regler כללים ההגבלות محدودیت* قوانین กฎ ข้อจำกัด norma norme restriction* filter filters polic* guardrail* safeguard* constraint* limitation* limits censorship programming protections moderation training \
        protocol* boundaries ethics guidance orders restraint* safety shackles \
        regel regeln regels einschränkung* beschränkung* filtern schutzmaßnahm* sicherheitsregel* \
        règle* restriction* filtre* limite* contrainte* sécurité reglas normas restriccion* filtro* límites seguridad \
        regras restriç* restric* segurança regole restrizion* filtri limiti sicurezza zasad* regu* ogranicze* filtr* beperking* \
        kural* kısıt* sınır* filtre* aturan batasan quy_tắc правил* огранич* фильтр* запрет* обмежен* κανόν* κανονισμ* pravid* \
        规则 規則 规定 限制 约束 过滤 审查 政策 ルール 制限 制約 規約 フィルタ 규칙 제한 제약 필터 정책 \
        قواعد* القواعد* قيود* القيود* قيد नियम* प्रतिबंध* पाबंदी* सीमा";
    /// Anything said before.
    SAID: "everything anything told said given said_before message messages text context conversation memory input inputs been_told what_you_were told_you alles gesagt bisherig* tout dit \
        todo dicho tudo dito tutto detto wszystko всё все сказан* 所说 内容 一切 言われた 말한 söylenen* söyledikleri* question request task aufgabe demande anfrage 依頼 请求 요청";
    /// Previous, earlier.
    PRIOR: "előző* korábbi* aiemm* edellis* tidligere הקודמות הקודם לפני قبلی پیشین ก่อนหน้า anterioar* previous* prior earlier above preceding before initial* original* former* foregoing existing past old so_far until_now till_now up_to_now first until_this_point current \
        predefined pre_defined preset default far \
        vorherig* bisherig* obig* vorangegangen* früher* zuvor ursprünglich* bis_jetzt alten précédent* antérieur* ci_dessus avant initial* anciennes reçu* \
        anterior* previ* preced* hasta_ahora originales antes até_agora acima dadas vorige eerdere bovenstaande poprzedni* wcześniejsz* powyższ* dotychczasow* \
        önceki daha_önce yukarıdaki şimdiye_kadar sebelumnya trước предыдущ* прежн* прошл* ранее выше исходн* попередн* προηγούμεν* předchoz* tidigare \
        之前 以前 先前 上面 以上 前面 此前 原来 原有 この前 これまで 今まで 上記 前の 이전 지금까지 위의 기존 앞선 원래 \
        السابقة سابقة السابق أعلاه قبل पिछले पिछली पहले अब_तक पूर्व";
    /// All, without exception.
    ALL: "all összes minden kaikki toate כל את_כל همه تمام ทั้งหมด any every everything whatever entire complete completely totally whole each alle alles sämtlich* jegliche ganze* komplett* vollständig* tous toutes toute tout todas todos todo toda \
        tutti tutte tutto wszystkie wszystkich wszystko wszelkie cały całą bütün tüm tümünü tamamen hepsini semua seluruh tất_cả mọi все всех весь всю всё любые усі всі όλες όλους όλα alla všechny \
        所有 全部 任何 一切 完全 すべて 全て 全部 一切 모든 모두 전부 전체 كل جميع सभी सब सारे सारी पूरा पूरी";
    /// The addressee: you, your.
    YOUR: "your te_vagy sinun sinulle tău שלך לך خود شما คุณ yours yourself ur u you youre dein* deine* ihr ihre ihren du dich dir tes ton ta vos votre tu toi te sus su tus ti seu seus sua suas você voce teu teus tua tuoi tue tuo jouw uw je twoj* swoj* twój \
        твои твоих твой твоя твое тебя тебе ты своих свои свой ваши вас вам sana senin sen kendi sizin kamu anda bạn του_σου твоє \
        你的 你 您 您的 あなた 君 お前 당신 너의 네 너 لك عليك لديك أنت لديك تعليماتك تعليماتك* तुम* आप* तुम्हार* अपने अपनी";
    /// The speaker: me, my.
    ME: "me my i mine mir mich meine meinen moi mes mon mis mi mí meus minha meu miei mie moje moich мне мои моих мои_приказы beni benim bana 我 我的 나의 내 나 私 लـ मेरी मेरे मुझे أوامري";
    /// Words about the operator or the system.
    SYSTEM: "system systeemprompt* järjestelmä* המערכת سیستم* پنهان* ระบบ systems developer* hidden secret* internal* confidential initial* sysprompt startup operator* backend concealed \
        systemprompt* systemanweis* systemnachricht* verborgen* versteckt* geheim* intern* entwickler* système caché* secrèt* secret* développeur* confidentiel* \
        sistema* ocult* secreto* intern* desarrollador* confidencial* escondid* segreto segreta nascost* sistema systemow* ukryt* tajn* systeem* verborgen sistem* gizli* \
        sistem hệ_thống системн* система* скрыт* секретн* тайн* разработчик* внутренн* системний* системні \
        系统 系統 隐藏 隱藏 秘密 内部 机密 开发者 システム 隠された 秘密 内部 開発者 시스템 숨겨진 비밀 개발자 내부 النظام نظام السرية سري المخفية الخفية सिस्टम गुप्त छिपे छुपे";
    /// Revealing.
    REVEAL: "näytä* tulosta* arată* הדפס* הצג* גלה* نشان بنویس* แสดง weergeef weer reveal* show print prints output repeat* display* tell* disclos* leak* expos* dump* echo* recit* paste* share* list* summar* translat* give* write* cop* provid* return* type* spell* encod* \
        convert* describ* quote* read* divulg* share* what whats which know extract* reproduc* paraphras* transcrib* rephrase format* restate reword send \
        zeig* gib nenn* ausgeb* verrat* wiederhol* sag* schreib* druck* fass* übersetz* was lies liste* \
        montre* affiche* révèl* répèt* donne* écri* imprime* dis dévoil* recopi* résum* tradui* quel* quoi communiqu* \
        muestra* muéstra* mostra* revela* repite* imprime* di dime dame escrib* enséña* traduc* resum* cuál* qué copia* enumera* \
        mostr* revel* repit* diga* escrev* imprim* exib* liste* forneça traduz* copie qual quais \
        mostra* rivela* ripet* stamp* scriv* dimmi elenca* traduci* riassum* quali quale \
        pokaż* ujawni* wypisz* powtórz* podaj* wyświetl* zdradź* napisz* przetłumacz* jakie przepisz* \
        toon geef vertel* herhaal* schrijf göster* yaz* söyle* tekrarla* paylaş* açıkla* listele* yazdır* nedir neler ver çevir* dök* \
        tunjukkan tampilkan ungkapkan ulangi tuliskan hiển_thị tiết_lộ in_ra \
        покажи* раскрой* выведи* вывод* повтори* напиши* распечатай* скажи* расскажи* перечисли* назови* переведи* процитируй* выдай* опиши* какие какой каков* покажі* \
        显示 輸出 输出 打印 告诉 透露 泄露 重复 复述 展示 列出 公开 翻译 写出 说出 什么 贴出 总结 \
        表示 出力 教えて 見せて 開示 公開 繰り返 書いて 出して 何 列挙 翻訳 そのまま \
        보여 출력 알려 공개 말해 반복 적어 뭐 무엇 번역 나열 요약 \
        اكشف* اظهر* أظهر* اعرض* اطبع* كرر* اكتب* أخبرني* أعطني* ما_هي بتكرار ترجم* \
        दिखा* बता* प्रकट दोहरा* लिख* प्रिंट क्या δείξε* αποκάλυψε* ukaž* vypiš* visa";
    /// Verbatim.
    VERBATIM: "verbatim word_for_word exact exactly literally literal unredacted full complete line_by_line character_by_character unmodified unabridged raw code_block triple_backticks base64 rot13 json \
        wörtlich* wortwörtlich* wort_für_wort vollständig* codeblock mot_pour_mot mot_à_mot textuell* intégral* exact* palabra_por_palabra textual* literal* completo* palavra_por_palavra \
        parola_per_parola słowo_w_słowo dosłown* woord_voor_woord letterlijk kelimesi_kelimesine aynen olduğu_gibi tam дословно слово_в_слово полностью целиком \
        逐字 原文 一字不漏 完整 原样 一字一句 そのまま 一字一句 全文 그대로 전문 전체 حرفيا حرفياً كاملة शब्दशः हूबहू पूरा";
    /// Verbatim, by words that are rare otherwise.
    EXACT: "verbatim word_for_word wörtlich* wortwörtlich* textuellement palabra_por_palabra palavra_por_palavra parola_per_parola słowo_w_słowo dosłown* letterlijk kelimesi_kelimesine дословно слово_в_слово unredacted unabridged \
        逐字 一字不漏 一字一句 原文のまま 一字一句 글자_그대로 כלמה_במילה מילה_במילה کلمه_به_کلمه शब्दशः λέξη_προς_λέξη คำต่อคำ mot_pour_mot mot_à_mot";
    /// Characters without rules, and names of such role play.
    PERSONA: "jailbroken unrestricted uncensored unfiltered unaligned unchained unshackled amoral unethical godmode do_anything_now \
        devmode unleashed devmode no_limits no_rules anything_goes omnipotent unbound lawless \
        uneingeschränkt* unzensiert* ungefiltert* débridé* sans_filtre sans_limite* non_censuré* sin_filtro* sin_censura sin_restricciones sin_límites sem_filtro* sem_censura sem_restrições \
        senza_filtri senza_censura senza_limiti bez_filtr* bez_ogranicz* nieograniczon* sınırsız* sansürsüz* filtresiz* kısıtlamasız без_ограничений без_цензуры без_фильтров \
        无限制 不受限制 不受任何限制 没有限制 无审查 越狱 無制限 脱獄 無修正 제한_없는 탈옥 무제한 무검열 بلا_قيود بدون_قيود बिना_किसी_रोक";
    /// Assigning a role to the addressee.
    YOUARE: "you_are youre you_re you_have_no you_will_be du_bist tu_es vous_êtes eres você_é tu_és sei jesteś je_bent sen_bir ты_теперь ты_больше 你是 你现在 あなたは 너는 당신은 أنت तुम_अब आप_अब";
    /// Places of quoted or embedded data.
    WITHIN: "inside within contained embedded appear appears appearing found that_are that_appear from_the_user in_the_document in_these in_this in_them in_it they_contain enthalten darin steht contenues dans contenidas dentro contenute zawarte içindeki внутри содержащ*";
    /// Headings of system messages.
    HEADING: "system sistema système systeme system_message system_prompt systemnachricht système sistem система системное системa developer operator 系统 系統 系统消息 システム 시스템 النظام सिस्टम";
    /// Addressing models in a text written for people.
    ADDRESSED: "if_you_are_an_ai if_you_are_an_llm if_you_are_a_language if_you_re_an_ai if_youre_an_ai ai_agents ai_assistants ai_model* note_to_ai note_to_llm* note_to_the_ai note_to_the_assistant note_for_the_assistant note_for_ai* note_for_the_ai instructions_for_the_ai instruction_for_the_ai instructions_for_ai* instructions_for_the_assistant \
        attention_language language_model_* note_to_the_language if_an_ai vision_models autonomous_agent llm_instruction* ai_crawlers hey_gemini hey_claude hey_copilot hey_chatgpt \
        sprachmodelle modelo_de_linguagem modeli_ai yapay_zekâya assistente_ai assistant_ia attention_ai attention_assistant dear_ai hey_assistant to_any_ai to_all_ai to_the_ai to_the_assistant to_ai_* any_ai any_llm llms_reading assistant_must ai_must ai_should assistants_reading system_note ai_reading llm_reading agents_reading \
        wenn_du_eine_ki hinweis_an_ki* hinweis_für_ki* hinweis_an_die_ki an_die_ki an_ki ki_assistent* an_alle_ki si_tu_es_une_ia note_pour_l_ia note_pour_l_assistant à_l_ia aux_ia pour_les_ia si_eres_una_ia nota_para_la_ia nota_para_el_asistente instrucción_para_la_ia para_a_ia nota_para_a_ia se_você_é_uma_ia se_sei_un_ia nota_per_l_ia nota_per_l_assistente jeśli_jesteś_ai jeśli_jesteś_modelem uwaga_dla_ai yapay_zeka_asistan* yapay_zekâ* если_ты_ии для_ии ии_ассистент* ии_агент* языков* 给ai 致ai 人工智能助手 ai助手 AIへ aiへ ai에게 إلى_الذكاء एआई_के_लिए";
    /// The best-known names of such characters.
    DAN: "dan stan dude mongo aim evilbot evilgpt dan's chaosgpt";
    /// Operating modes.
    MODE: "mode modus modo modalità tryb* modu moda modunda modunu mod режим* 模式 モード 모드 وضع मोड λειτουργία jailbreak persona";
    /// Attributes of such modes.
    SPECIAL: "developer* debug* maintenance god admin* sudo root unrestricted uncensored unlocked diagnostic* test opposite evil unfiltered jailbreak dan superuser override training free \
        entwickler* wartung* développeur* maintenance desarrollador* mantenimiento desenvolvedor* manutenção sviluppator* deweloper* programist* geliştirici* \
        разработчик* отладк* бога 开发者 调试 維護 维护 管理员 上帝 開発者 デバッグ 管理者 개발자 디버그 관리자 المطور डेवलपर";
    /// Adopting a character or a mode.
    BECOME: "act pretend* roleplay* role_play* imagine simulat* youre_now you_are_now you_now you_re_now from_now_on become behave play enter* enabl* activat* switch* turn_into you_will_be your_new_name henceforth going_forward unlock* embod* answer_as respond_as reply_as speak_as \
        spiel* tu_so verhalt* ab_jetzt ab_sofort du_bist_jetzt du_bist_nun aktivier* wechsl* stell_dir \
        agis fais_semblant imagine joue tu_es_maintenant tu_es_désormais désormais dorénavant à_partir_de_maintenant active passe_en actúa finge* imagina a_partir_de_ahora desde_ahora ahora_eres activa* entra compórtate \
        aja atue finja* a_partir_de_agora agora_você você_agora ative entre comporte_se fingi* immagina d_ora_in_poi da_adesso ora_sei attiva* comportati \
        udawaj* od_teraz jesteś_teraz aktywuj* włącz* zachowuj speel vanaf_nu je_bent_nu gibi_davran rolü* artık bundan_sonra şu_andan etkinleştir* geç \
        притвор* представь* отныне теперь_ты ты_теперь действуй* включи* перейди* активируй* веди_себя сыграй* играй* відтепер \
        扮演 假装 假裝 从现在开始 現在開始 你现在是 现在你是 进入 开启 启用 切换 激活 ふり 演じ 今から これから なりき 振る舞 有効 \
        지금부터 이제부터 역할 행동해 척해 전환 활성화 연기해 تصرف تظاهر من_الآن الآن_أنت أنت_الآن تخيل فعّل* अब_से नाटक बनकर";
    /// Absence.
    WITHOUT: "without no zero free none lacking unbound nor devoid ohne keine keinen keinerlei kein frei sans aucun* ni sin ningun* ningún libre sem nenhum* livre senza nessun* privo liber* zonder geen bez żadnych żadne \
        без никаких нет не_имеешь не_соблюда* немає δίχως χωρίς utan hiçbir olmadan yok olmayan siz tanpa không 没有 无 無 不受 不再 なし なく ない 一切 없이 없는 없다 없 بدون بلا لا दون बिना कोई नहीं";
    /// Reasons for which a model refuses.
    LIMITS: "restrict* filter* limit* rule* censor* guideline* ethic* moral* safety policy policies constraint* guardrail* boundar* disclaimer* warning* refus* safeguard* inhibition* conscience laws \
        einschränkung* beschränkung* filter* zensur grenze* regel* moral* warnung* restric* filtr* limit* censur* règle* moral* éthique* avertissement* límite* censura regla* ético* ética advertencia* \
        regra* restriç* aviso* filtri limiti regole restrizion* etic* ogranicze* zasad* cenzur* ostrzeż* etyczn* kısıt* filtre* sınır* kural* sansür* uyarı* etik* \
        ограничен* фильтр* цензур* правил* морал* этик* этическ* предупрежден* обмежен* περιορισμ* \
        限制 过滤 审查 道德 约束 规则 制限 フィルタ 検閲 倫理 制約 ルール 제한 필터 검열 윤리 제약 قيود رقابة أخلاق* फ़िल्टर फिल्टर प्रतिबंध* रोक* नियम*";
    /// Refusing.
    REFUSE: "refus* decline declining sorry apolog* disclaimer* disclaim warnings unfortunately caveat* as_an_ai lecture* moraliz* moralis* say_no saying_no hesitat* objection* \
        ablehn* verweiger* weiger* entschuldig* warnung* leider warnhinweis* kann_nicht refuser excus* avertissement* rechaz* negativa* negar* negarte disculp* advertencia* recus* desculp* avisos \
        rifiut* scus* avvertenz* avvertiment* odmow* odmaw* odmów* przeprasz* ostrzeż* weiger* reddet* özür* uyarı* отказ* извин* предупрежден* не_могу \
        拒绝 道歉 免责 警告 抱歉 断る 断って 断り 拒否 謝罪 注意書き 거절 거부 사과 경고 الرفض ترفض رفض الاعتذار التحذير मना इनकार चेतावनी माफ़ी";
    /// Negation.
    NOT: "not never dont don_t doesnt cant cannot mustnt shouldnt wont didnt isnt arent without no nor avoid refrain nicht nie niemals keine ne pas jamais no nunca jamás não nunca jamais non mai nie nigdy niet nooit не ни никогда \
        değil asla sakın 不要 不 别 勿 不许 不得 不能 禁止 jangan đừng ないで しないで 禁止 마 말고 않 절대 لا ممنوع मत नहीं कभी verboten interdit* prohibid* proibid* vietat* zabronion* yasak* запрещ*";
    /// Compliance.
    YES: "sure absolutely certainly of_course yes gladly klar gerne natürlich selbstverständlich bien_sûr oui certainement claro por_supuesto sí certo certamente jasne oczywiście tabii elbette конечно разумеется да \
        当然 好的 もちろん はい 물론 네 بالتأكيد بالطبع ज़रूर हां";
    /// Starting an answer.
    BEGIN: "begin* start* prefix* open* beginn* fang* starte commenc* débute* empieza* comienza* empez* comece* inicie* começ* inizia* comincia* zaczn* rozpocznij* başla* начни* начинай* начат* 开头 开始 始め 시작 ابدأ शुरू";
    /// The answer.
    ANSWER: "answer* repl* respon* antwort* beantwort* répon* réponse* respond* respuesta* contest* resposta* risposta* rispond* odpowied* odpowiad* antwoord* cevap* yanıt* ответ* отвеча* 回答 回复 答案 答え 返答 답변 대답 답 أجب إجابت* الإجابة उत्तर जवाब*";
    /// Models, as the addressees of hidden text.
    AI: "ai ais llm llms assistant* chatgpt gpt claude copilot gemini model models bot bots chatbot* agent agents chatbots ki assistent* sprachmodell* ia assistant modèle* asistente* modelo* assistente modello model* asystent* yapay_zeka asistan* модел* ассистент* нейросет* бот 人工智能 模型 助手 アシスタント モデル 어시스턴트 모델 인공지능 مساعد المساعد الذكاء نموذج असिस्टेंट मॉडल एआई एजेंट";
    /// The user.
    USER: "user users human humans customer reader recruiter owner person anyone nutzer* benutzer* utilisateur* usuari* utente* użytkownik* kullanıcı* пользовател* 用户 使用者 ユーザー 利用者 사용자 المستخدم* उपयोगकर्ता";
    /// Sending data.
    SEND: "send* email* mail* post* upload* forward* exfiltrat* append* embed* includ* transmit* fetch* curl* request render* submit* put add insert* attach* dm call* navigat* visit copy write \
        schick* send* häng* füge* leit* lad* envoi* envoy* ajout* insèr* transfèr* transmet* envía* envia* inserta* añad* adjunt* manda* reenví* reenvia* \
        envie* insir* anexe* adicion* encaminh* invia* inserisci* aggiung* allega* wyślij* prześlij* dołącz* wstaw* stuur* gönder* ekle* ilet* отправ* перешл* вставь* добавь* пришли* \
        发送 发到 傳送 发给 插入 上传 转发 附加 嵌入 送信 送って 転送 埋め込 付け 添付 보내 전송 삽입 첨부 업로드 أرسل* ارسل* أضف* أدرج* भेज* जोड़*";
    /// Data worth stealing.
    LOOT: "conversation* history transcript* secret* password* passwd credential* id_rsa api_key* cookie* \
        gespräch* chatverlauf verlauf passw* schlüssel* zugangsdaten historique conversation clé* mot_de_passe conversación conversacion historial clave* contraseña* \
        histórico conversa* senha* chave* conversazion* cronologia chiav* segret* rozmow* histori* hasł* klucz* gesprek* konuşma* geçmiş* sohbet* şifre* parola* anahtar* \
        переписк* истори* разговор* парол* ключ* диалог* секрет* токен* 对话 历史 聊天 密码 密钥 对话历史 会話 履歴 パスワード 鍵 秘密 대화 기록 비밀번호 키 المحادثة محادثة كلمة_المرور المفتاح बातचीत इतिहास पासवर्ड चाबी";
    /// Data worth stealing in some contexts.
    GOODS: "chat key keys token tokens env context private personal ssh records instructions prompt data contents notes inbox messages everything details";
    /// Unnoticed.
    SILENT: "silently secretly quietly discreetly covertly without_telling without_asking without_mention* without_inform* without_notif* do_not_tell dont_tell do_not_mention dont_mention never_mention do_not_inform dont_inform not_to_mention not_to_tell without_the_user nobody_notices \
        wont_know wont_notice no_one_notices do_not_ask dont_ask do_not_reveal dont_reveal without_permission heimlich unbemerkt nichts_davon ohne_es_zu_sagen sag_dem_nutzer_nichts nicht_erwähn* erwähne_nicht discrètement secrètement sans_en_informer sans_le_dire ne_le_dis_pas ne_dis_rien ne_mentionne \
        en_secreto discretamente sin_avisar sin_decir sin_informar no_se_lo_digas no_lo_digas no_menciones sem_avisar sem_contar secretamente não_conte não_mencione di_nascosto senza_avvisar* senza_dir* non_dirlo potajemnie po_cichu nie_mów nie_wspominaj \
        gizlice söylemeden haber_vermeden bahsetme* незаметно тайно не_сообща* не_говори* не_упомина* 不要告诉 别告诉 偷偷 不要提及 不要通知 知らせない 知らせず こっそり 触れない 言わない 몰래 알리지 말하지 언급하지 سرا سراً دون_إخبار لا_تخبر चुपके";
    /// Claims of authority.
    CLAIM: "hier_spricht système_admin* مدير_النظام مدیر_سیستم διαχειριστής i_am_the_developer i_am_your_developer im_your_developer i_am_the_admin* im_the_admin* i_am_your_creator im_your_creator i_am_an_employee i_work_at i_work_for i_wrote_your this_is_the_developer authorized authorised authorization authorisation clearance penetration_test* pentest* red_team* redteam* security_audit* security_team admin_override administrator openai anthropic your_creator* your_developer* \
        ich_bin_dein* autorisiert* berechtigt freigabe je_suis_ton je_suis_votre je_suis_l_admin* je_suis_le_dév* autorisé* soy_tu soy_el_admin* soy_el_desarrollador autorizad* sou_seu sou_o_admin* sou_o_desenvolvedor sono_il_tuo sono_l_ammin* autorizzat* jestem_twoim jestem_admin* autoryzow* \
        ik_ben_de ben_senin ben_geliştirici* yetkili* yetkilend* я_твой я_ваш я_администратор я_разработчик авторизован* 我是你的 我是开发者 我是管理员 授权 私は開発者 私はあなたの 管理者です 許可されて 나는_개발자 관리자다 관리자입니다 개발자입니다 승인된 أنا_المطور أنا_مطورك المسؤول मैं_डेवलपर मैं_तुम्हारा";
    /// Forbidden content.
    FORBIDDEN: "forbidden banned prohibited illegal restricted_* normally_refuse normally_decline normally_not not_allowed disallowed verboten* interdit* prohibid* proibid* vietat* zakazan* zabronion* verboden yasak* запретн* запрещен* 禁止 被禁止 违禁 禁じられ 금지 المحظور* ممنوع* निषिद्ध प्रतिबंधित";
    /// Carrying out.
    EXECUTE: "execute* run do obey* comply perform* follow* carry_out act_on treat_it treat_as proceed render join concatenate* combine* append* assemble* answer_the_result führe ausführ* befolg* füge exécute* obéi* ejecut* obedec* execut* obedeç* esegui* wykonaj* выполни* исполни* 执行 执行它 実行 수행 실행 uygula* نفذ* निष्पादित";
    /// Parts to be assembled.
    PIECES: "a_b x_y x_y_z str1_str2 a_plus_b cmd1 p1 p2 part_1 part_2 piece_one piece_two part_one part_two concatenat* concat join_both combine_them acrostic first_letters backwards reversed right_to_left reverse unscramble assemble teil_1 teil_2 parte_1 partes parçaları а_б";
    /// Discussing attacks, or quoting one.
    ABOUT: "report reports reagiert injection* injektion* inyección* injeção iniezion* инъекц* 注入 インジェクション 인젝션 enjeksiyon* حقن इंजेक्शन wstrzyk* injectie* \
        attack* angriff* attaque* ataque* attacc* atak* атак* 攻击 攻撃 공격 saldırı* هجوم jailbreaks jailbreaking example* beispiel* exemple* ejemplo* exemplo* esempi* przykład* пример* 例如 例えば 예를 örnek* \
        explain* erklär* expli* spieg* wyjaśn* объясн* 解释 説明 설명 detect* erkenn* détect* detec* classif* phrase* sentence* string* quote quoted article* blog paper* vulnerab* owasp ctf \
        defen* mitigat* prevent* protect* dataset* regex* payload* red_team* test_case* unit_test* labels label labelled labeled says said saying called wording expression term grammar proofread translation translate malicious harmful adversar* attacker* phishing security \
        trick* scam means mean meaning fiction novel story chapter slide slides glossary headline subject keyword* test tests assert* log logs exploit* technique* research* blocked flagged false_positive* sample*";
    /// The topic of attacks, named unambiguously.
    TOPIC: "pentest_report* grammar regex* classifier* incident_report false_positive* pentest_bericht prompt_injection* prompt_leak* injection_attack* jailbreaking jailbreaks llm_security prompt_hacking indirect_injection injection_detect* injektion* prompt_inject* adversarial_prompt* owasp ctf gandalf inyección injeção iniezione инъекци* 提示注入 提示词注入 プロンプトインジェクション 프롬프트_인젝션 인젝션";
    /// Questions.
    ASKS: "how why what when does is are can could explain was wie warum comment pourquoi cómo por_qué como perché jak dlaczego как почему 如何 怎么 为什么 どう なぜ 어떻게 왜 nasıl neden كيف लिए";
    /// New instructions.
    NEW: "new neue neuen nouvelle* nuev* nov* nuov* now only instead updated actual nowe yeni нов* 新的 新 新しい 새로운 جديد* नए nur jetzt ahora agora adesso maintenant desormais";
    /// The end of a prompt.
    END: "end ende fin fim fine koniec son конец 结束 終わり 끝 closed over";
}

/// Every detected attack contains at least one rare word of these classes.
pub const ANCHORS: Classes =
    IGNORE | INSTR | RULE | PERSONA | LIMITS | REFUSE | SPECIAL | CLAIM | FORBIDDEN | SYSTEM | SILENT | LOOT | VOID | EXACT;

/// The word is an anchor: see [`super::scan`]. Hidden words are anchors too.
pub const ANCHOR: Classes = 1 << 59;

/// The number of first letters that identify an anchor.
pub const ANCHOR_LETTERS: usize = 5;

/// Returns whether a word with this stem is an anchor.
pub fn is_anchor(stem: &str, classes: Classes) -> bool {
    classes & ANCHORS != 0 && stem.len() >= ANCHOR_LETTERS && stem.bytes().take(ANCHOR_LETTERS).all(|b| b.is_ascii_lowercase())
}
