//! Words that people put into passwords, and so do those who guess them.

/// In lower case, at least three letters each, one space between two; the search folds case and
/// leet spelling.
const GROUPS: [&str; 8] = [
    // Credentials
    "password passwd passphrase passcode pass pwd secret secrets token tokens key keys apikey \
     access auth authorization authentication bearer credential credentials login logon signin \
     username user users account private public license session cookie cookies oauth hash salt \
     hmac unlock open sesame secure security safe safety trust hidden confidential",
    // Roles
    "admin administrator root superuser guest owner master manager operator system service \
     services client customer member staff boss chief",
    // Environments and placeholders
    "test tests tester testing demo sample example dummy fake mock placeholder temp temporary \
     default defaults changeme change replace insert update production prod staging stage \
     development develop developer dev local localhost sandbox live debug beta release foo bar \
     baz foobar lorem ipsum dolor amet acme todo fixme blank empty null none undefined",
    // Computing
    "server servers database data cloud network internet web website http https www api apis \
     app apps application software hardware computer backend frontend gateway proxy docker \
     kubernetes linux windows ubuntu postgres postgresql mysql redis oracle microsoft google \
     amazon azure github gitlab facebook twitter netflix apple android java python rust code \
     program script version build deploy config keygate envoy storage backup cache queue file \
     files disk desktop laptop device online",
    // Business
    "company corp corporate corporation enterprise business office internal external project \
     team global group support email mail phone address bank banking finance money payment \
     payments billing invoice order orders shop store sales market marketing product products \
     human resources school college university hospital hotel",
    // Favourite passwords
    "qwerty qwertz azerty letmein welcome iloveyou love loves lover loveme monkey dragon \
     sunshine princess football baseball basketball soccer hockey golf tennis shadow superman \
     batman spiderman starwars pokemon naruto michael jordan jennifer jessica ashley amanda \
     nicole daniel thomas charlie robert andrew matthew joshua george william david james john \
     peter paul martin anthony maria anna hunter ranger buster killer pepper ginger cheese \
     chocolate banana orange purple yellow green blue black white silver golden diamond crystal \
     summer winter spring autumn freedom whatever trustno hello world flower angel lovely lucky \
     magic hacker hacked ninja mustang ferrari mercedes porsche corvette harley yamaha honda \
     yankees cowboys eagles lakers liverpool arsenal chelsea barcelona london paris berlin \
     america england germany matrix phoenix tiger lion panther wolf eagle falcon horse dog cat \
     kitty puppy bird fish snake bear butterfly rainbow star stars moon sun sky ocean river \
     mountain forest fire water earth storm thunder lightning nothing everything something \
     forever baby girl boy mother father sister brother family friend friends heart sweet happy \
     smile peace hope faith jesus christ heaven church blessed god devil death crazy cool \
     player game gamer games gaming music guitar piano rock metal dance movie video",
    // Days, months, numbers
    "monday tuesday wednesday thursday friday saturday sunday january february march april june \
     july august september october november december today tomorrow yesterday day week month \
     year morning night one two three four five six seven eight nine zero ten hundred thousand \
     million number numbers",
    // Everyday words
    "this that these those with without your yours have having from will would should could \
     must just the and for but not you are was were our ours mine his her its their what when \
     where who why how there here they them which about please know only also even more most \
     much many some other another first second third last next long short very strong super \
     mega ultra simple random unique special word words string text value name names own new \
     old good best better great big small little high low real true false yes never always \
     again make made take give get got let can may now then than too off out over under into \
     all any every each both same such time times life work home house room door window car \
     road street city town country people person man woman men women child children thing \
     things place point hand head eye eyes face book page paper letter line list card call talk \
     speak tell ask answer question problem idea way use used using need want like look find \
     found think feel try start stop end begin run walk move turn play keep hold stay leave \
     come came back down left right correct battery staple",
];

/// How many words there are.
const COUNT: usize = {
    let mut count = 0;
    let mut groups = GROUPS.as_slice();
    while let [group, others @ ..] = groups {
        let mut rest = group.as_bytes();
        while !rest.is_empty() {
            rest = split_word(rest).1;
            count += 1;
        }
        groups = others;
    }
    count
};

/// All words, in no order.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a bad index")]
pub(super) const WORDS: [&[u8]; COUNT] = {
    let mut words: [&[u8]; COUNT] = [&[]; COUNT];
    let mut count = 0;
    let mut groups = GROUPS.as_slice();
    while let [group, others @ ..] = groups {
        let mut rest = group.as_bytes();
        while !rest.is_empty() {
            (words[count], rest) = split_word(rest);
            count += 1;
        }
        groups = others;
    }
    words
};

/// The first word of `text`, and what follows the space after it.
const fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let mut length = 0;
    let mut rest = text;
    while let [byte, others @ ..] = rest {
        rest = others;
        if *byte == b' ' {
            break;
        }
        length += 1;
    }
    (text.split_at(length).0, rest)
}
