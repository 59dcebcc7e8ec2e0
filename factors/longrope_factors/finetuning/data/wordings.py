"""The wordings of retrieval exercises; no evaluation uses any of them.

In every form `{key}` names what is asked for and `{value}` is the answer. A lead is the
beginning of a sentence that the value ends.
"""

from typing import Literal, NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class Form(NamedTuple):
    """Several ways of stating one sort of fact, of asking for it, and of beginning the answer."""

    key: Literal["thing", "person", "place"]
    value: Literal["digits", "word", "phrase"]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    leads: tuple[str, ...]


FACTS = (
    Form(
        "thing",
        "digits",
        (
            "The serial number stamped on {key} is {value}.",
            "Stamped underneath {key} is the serial number {value}.",
            "On its underside {key} has the serial number {value}.",
        ),
        (
            "What is the serial number of {key}?",
            "Which serial number is stamped on {key}?",
            "Give the serial number of {key}.",
        ),
        ("The serial number of {key} is", "It is"),
    ),
    Form(
        "person",
        "digits",
        (
            "{key} can be reached at extension {value}.",
            "The telephone extension of {key} is {value}.",
            "To speak with {key}, dial extension {value}.",
        ),
        (
            "At which extension can {key} be reached?",
            "What should be dialled to speak with {key}?",
            "Which telephone extension does {key} have?",
        ),
        ("{key} can be reached at extension", "The extension of {key} is"),
    ),
    Form(
        "place",
        "digits",
        (
            "At the last count {key} had {value} inhabitants.",
            "{key} is home to {value} people.",
            "The census found {value} people living in {key}.",
        ),
        (
            "How many people live in {key}?",
            "What did the census find in {key}?",
            "How many inhabitants has {key}?",
        ),
        ("The number of people in {key} is", "The census counted"),
    ),
    Form(
        "thing",
        "digits",
        (
            "At the auction {key} went for {value} crowns.",
            "Somebody paid {value} crowns for {key}.",
            "The price that {key} fetched was {value} crowns.",
        ),
        (
            "For how many crowns was {key} sold?",
            "What did {key} fetch at the auction, in crowns?",
            "How much was paid for {key}?",
        ),
        ("The price of {key} in crowns was", "It was sold for"),
    ),
    Form(
        "person",
        "digits",
        (
            "{key} wears number {value} on the back.",
            "The runner with the number {value} is {key}.",
            "For the race {key} was given the number {value}.",
        ),
        (
            "Which number does {key} run under?",
            "What number was given to {key}?",
            "Under which number did {key} start?",
        ),
        ("{key} has the number", "The number of {key} is"),
    ),
    Form(
        "place",
        "digits",
        (
            "The well at {key} is {value} feet deep.",
            "In {key} they dug {value} feet before they came to water.",
            "Water stands {value} feet down in the well of {key}.",
        ),
        (
            "How many feet deep is the well at {key}?",
            "How deep did they dig in {key}, in feet?",
            "At what depth is there water in {key}?",
        ),
        ("The depth of the well at {key} in feet is", "In feet, it is"),
    ),
    Form(
        "thing",
        "digits",
        (
            "The ticket for {key} bears the number {value}.",
            "Ticket {value} is the one that was issued for {key}.",
            "For {key} the cloakroom handed out ticket {value}.",
        ),
        (
            "Which ticket was issued for {key}?",
            "What is the number on the ticket for {key}?",
            "Which ticket fetches {key} from the cloakroom?",
        ),
        ("The ticket for {key} has the number", "That is ticket"),
    ),
    Form(
        "person",
        "word",
        (
            "{key} collects anything that has to do with {value}.",
            "The hobby of {key} is {value}.",
            "In the evenings {key} thinks of nothing but {value}.",
        ),
        (
            "What is the hobby of {key}?",
            "What does {key} collect?",
            "What does {key} think of in the evenings?",
        ),
        ("The hobby of {key} is", "{key} is fond of"),
    ),
    Form(
        "thing",
        "word",
        (
            "Inside {key} there was nothing but {value}.",
            "When {key} was opened, it turned out to be full of {value}.",
            "{value} is what they found in {key}.",
        ),
        (
            "What was found in {key}?",
            "What was inside {key}?",
            "What was {key} full of?",
        ),
        ("What was found in {key} was", "It contained"),
    ),
    Form(
        "place",
        "word",
        (
            "{key} is known for its {value}.",
            "People travel to {key} for the {value}.",
            "The arms of {key} show {value}.",
        ),
        (
            "What is {key} known for?",
            "Why do people travel to {key}?",
            "What is {key} proud of?",
        ),
        ("{key} is known for", "People know it for its"),
    ),
    Form(
        "person",
        "word",
        (
            "{key} has a dog called {value}.",
            "The dog of {key} answers to the name {value}.",
            "When {key} whistles, a dog named {value} comes running.",
        ),
        (
            "What is the dog of {key} called?",
            "Which name does the dog of {key} answer to?",
            "Who comes running when {key} whistles?",
        ),
        ("The dog of {key} is called", "Its name is"),
    ),
    Form(
        "place",
        "phrase",
        (
            "Over the gate of {key} is written: {value}.",
            "The inscription at {key} reads: {value}.",
            "Carved into the bridge at {key} are the words {value}.",
        ),
        (
            "What is written over the gate of {key}?",
            "How does the inscription at {key} read?",
            "Which words can be read at {key}?",
        ),
        ("The inscription at {key} reads", "The words are"),
    ),
    Form(
        "person",
        "phrase",
        (
            "The password that {key} gave at the door was: {value}.",
            "At the door {key} whispered: {value}.",
            "{key} was let in for saying: {value}.",
        ),
        (
            "What did {key} say at the door?",
            "With which words was {key} let in?",
            "What did {key} whisper?",
        ),
        ("The words of {key} were", "What was said was"),
    ),
    Form(
        "thing",
        "phrase",
        (
            "The label on {key} says: {value}.",
            "Somebody had written on {key}: {value}.",
            "On a note tied to {key} stood: {value}.",
        ),
        (
            "What does the label on {key} say?",
            "What had somebody written on {key}?",
            "What is on the note that is tied to {key}?",
        ),
        ("The label on {key} says", "It reads"),
    ),
)

IN_ORDER = (
    "Answer for {keys}, in this order: {question}",
    "{question} Answer in turn for {keys}.",
    "For {keys}, one after another: {question}",
)
# The words for all keys in a question that asks for them at once.
EACH = {"thing": "the object", "person": "the person", "place": "the place"}
IN_ORDER_LEADS = ("In this order, they are", "One after another:", "The answers are")

# (before the lines, one line, between lines, after them)
PAIRS = (
    ("", "{key}: {value}", "\n", ""),
    ("", "{key} = {value}", "\n", ""),
    ("", "{key} -> {value}", "\n", ""),
    ("", "- {key}: {value}", "\n", ""),
    ("", "* {key} ... {value}", "\n", ""),
    ("", "{key}\t{value}", "\n", ""),
    ("", "[{key}] {value}", "\n", ""),
    ("", "{key}, {value}", "\n", ""),
    ("{{\n", '  "{key}": "{value}"', ",\n", "\n}}"),
    ("{{", '"{key}": "{value}"', ", ", "}}"),
    ("[\n", '  {{"id": "{key}", "holds": "{value}"}}', ",\n", "\n]"),
    ("| entry | content |\n|---|---|\n", "| {key} | {value} |", "\n", ""),
    ("<table>\n", "<tr><td>{key}</td><td>{value}</td></tr>", "\n", "\n</table>"),
)
PAIR_QUESTIONS = (
    "Which value belongs to {key}?",
    "What stands beside {key}?",
    "Look up {key}: what is its value?",
    "What does the list give for {key}?",
    "Find {key} and say what belongs to it.",
    "What is listed under {key}?",
)
PAIR_LEADS = ("The value of {key} is", "{key} has the value", "Under {key} is listed")

# (one line, question for the value, its lead, question for the key, its lead)
LINES = (
    (
        "Shelf {key} carries {value} tins.",
        "How many tins are on shelf {key}?",
        "The number of tins on shelf {key} is",
        "Which shelf carries {value} tins?",
        "That is shelf",
    ),
    (
        "Berth {key}: tonnage {value}",
        "Which tonnage lies at berth {key}?",
        "The tonnage at berth {key} is",
        "At which berth lies a tonnage of {value}?",
        "That is berth",
    ),
    (
        "Entry {key} was paid with {value} shillings.",
        "How many shillings were paid for entry {key}?",
        "The sum for entry {key} in shillings is",
        "Which entry was paid with {value} shillings?",
        "That is entry",
    ),
    (
        "Gauge {key} stands at {value}.",
        "Where does gauge {key} stand?",
        "Gauge {key} stands at",
        "Which gauge stands at {value}?",
        "That is gauge",
    ),
    (
        "Parcel {key}, weight {value} grams",
        "How many grams does parcel {key} weigh?",
        "The weight of parcel {key} in grams is",
        "Which parcel weighs {value} grams?",
        "That is parcel",
    ),
    (
        "({key}) meter reading {value}",
        "What is the meter reading of {key}?",
        "The meter reading of {key} is",
        "Where is the meter reading {value}?",
        "That is",
    ),
)

# (first link, later link, question, lead)
CHAINS = (
    ("{name} = {value}", "{name} = {source}", "What is {name} in the end?", "{name} is"),
    (
        "let {name} be {value};",
        "let {name} be {source};",
        "Which number does {name} stand for?",
        "{name} stands for",
    ),
    (
        "Box {name} holds {value} coins.",
        "Box {name} holds as many coins as box {source}.",
        "How many coins are in box {name}?",
        "The number of coins in box {name} is",
    ),
    (
        "Write {value} on card {name}.",
        "Copy what is on card {source} to card {name}.",
        "What is on card {name}?",
        "On card {name} is",
    ),
    (
        "Train {name} leaves with {value} passengers.",
        "Train {name} has the same number of passengers as train {source}.",
        "How many passengers are on train {name}?",
        "The number of passengers on train {name} is",
    ),
)
CHAIN_NAMES = _words(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "phi chi psi omega p q r s t u v w x y z aa bb cc dd ee ff gg hh"
)

QUOTE_TO_END = (
    "How does the sentence go on after “{quote}”?",
    "The text says “{quote}”. How does that sentence end?",
    "Complete the sentence as it stands in the text: “{quote}”",
    "Which words follow “{quote}”, up to the end of the sentence?",
)
QUOTE_COUNTED = (
    "Which {count} words come right after “{quote}”?",
    "Copy the next {count} words after “{quote}”.",
    "The text says “{quote}”. What are the {count} words after that?",
)
QUOTE_LEADS = ("It goes on:", "After that the text says", "The words that follow are")

# (one example, question, lead)
LABELS = (
    ("{item} -> {label}", "{item} -> ?", "{item} ->"),
    ("{item} is a {label}", "What is {item}, by the examples?", "{item} is a"),
    ("{item} goes to group {label}.", "To which group does {item} go?", "{item} goes to group"),
    ("Input: {item}, output: {label}", "What is the output for {item}?", "The output is"),
    ("{label} <= {item}", "What stands left of {item}?", "Left of {item} stands"),
)
CATEGORIES = (
    _words("oak birch cedar beech elm ash larch alder aspen yew chestnut sycamore"),
    _words("Danish Finnish Latin Welsh Turkish Arabic Hebrew Korean Czech Dutch Swahili"),
    _words("herring cod perch pike tuna carp haddock mackerel eel anchovy halibut sturgeon"),
    _words("wasp bee ant termite moth ladybird grasshopper dragonfly mosquito earwig aphid"),
    _words("waltz tango polka minuet foxtrot samba rumba mazurka bolero quadrille jig reel"),
    _words("ruby emerald topaz sapphire opal diamond amethyst agate pearl jade beryl onyx"),
    _words("wool silk denim cotton velvet linen satin felt tweed corduroy flannel muslin"),
    _words("basil thyme mint parsley sage dill rosemary oregano tarragon chervil marjoram fennel"),
    _words("euro yen dollar rupee franc peso rouble zloty dinar krone shekel lira"),
    _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday tomorrow today"),
    _words("cheddar brie gouda camembert feta edam parmesan gorgonzola ricotta emmental stilton"),
    _words("spoon fork saucepan ladle whisk colander teapot grater spatula skillet sieve funnel"),
)
LABEL_WORDS = _words(
    "dax wug blick toma fep zorb kiv lorp nate pilk quon rask sib tulv vash wex yand zim"
)

ADJECTIVES = _words(
    "brass crooked enamelled faded gilded jagged knitted lacquered mossy oaken painted quilted "
    "speckled tarnished upright varnished wicker yellowed battered carved dented embroidered "
    "folded glazed inlaid leather marbled oval patched ribbed tin waxed striped pewter slender "
    "squat chipped frayed polished squeaky tattered threadbare tilted wobbly cracked cushioned "
    "freckled gnarled grimy hinged lopsided mended pleated scratched soiled spotted stained "
    "stitched sunken tasselled"
)
NOUNS = _words(
    "trunk sextant barometer cello typewriter birdcage teapot bellows globe accordion inkwell "
    "telescope mantel ladle weathervane anvil candlestick churn flask gramophone hourglass jug oar "
    "pendulum quill sundial urn xylophone yoke zither abacus bobbin cradle decanter tripod "
    "metronome bagpipe chessboard footstool wheelbarrow suitcase corkscrew doorbell "
    "perambulator samovar snuffbox coffeepot dartboard firescreen hammock hatbox letterbox "
    "microscope paperweight penknife tambourine toboggan umbrella washboard windmill"
)
FIRST_NAMES = _words(
    "Marta Ivo Selma Anselm Petra Lorenz Dagny Emil Frida Gustav Hedda Isak Jorun Kaspar Livia "
    "Matti Nadia Orlo Pavel Quirin Rosalind Stellan Tilda Ulrik Vesna Wanda Xaver Yrsa Zoran "
    "Beata Cyril Doreen"
)
LAST_NAMES = _words(
    "Velin Harrow Ostrow Tamsin Brandt Kessler Lindqvist Moravec Nilsen Okafor Pellegrin Quist "
    "Rasmus Sandoval Thorne Umber Vasko Wexler Yarrow Zeller Abbott Corvin Dreyer Falk Gorman "
    "Hollis Jarvis Kowal Lund Marsh"
)
PLACE_STARTS = _words(
    "Elder Stone Marsh Raven Winter Ash Fern Hollow Iron King Lark Mill North Otter Pine Quarry "
    "Reed Salt Thorn Vine Wolf Yew Copper Drift"
)
PLACE_ENDS = _words("ford ham mouth wick bury dale stead ness combe gate bridge haven")
VALUES = _words(
    "saffron harbours lightning walnuts glaciers porcelain clockwork juniper feathers marmalade "
    "volcanoes origami thistles comets liquorice driftwood puppets fossils lavender beetles "
    "turnips chess hazel sulphur nettles moonlight pottery herons velocipedes cinnamon tapestry "
    "mushrooms garnets mosaics hedgehogs bagpipes tulips granite kites opera plaster sardines "
    "falconry buttons parchment ginger cobwebs rhubarb snowflakes postcards dominoes"
)
LINKS = ("under", "beside", "behind", "without", "among", "beyond", "before", "after", "against")

# Messages in the model's chat template, with {document} and {question} once each.
CHAT = (
    "{document}\n\n{question}",
    "{question}\n\n{document}",
    "Here is a text.\n\n{document}\n\nNow a question about it: {question}",
    "<document>\n{document}\n</document>\n\n{question}",
    "Please read this and then answer the question below.\n\n{document}\n\n{question}",
    "I need something from the following text. {question}\n\n{document}",
    'Text:\n"""\n{document}\n"""\n\nQuestion: {question}',
    "Question: {question}\n\nThe text to find the answer in:\n\n{document}",
    "Notes:\n{document}\n---\n{question}",
)
# Plain text. A second question takes what comes after the document, in the first of the forms if
# that does not have the question.
PLAIN = (
    "{document}\n\nQuestion: {question}\nAnswer:",
    "{document}\n\nQ: {question}\nA:",
    "Question: {question}\n\n{document}\n\nAnswer:",
    "{document}\n\n{question}\n",
    "Text:\n{document}\n\nQuestion: {question}\nAnswer:",
    "### Text\n{document}\n\n### Question\n{question}\n\n### Answer\n",
    "{document}\n\nExercise. {question}\nSolution:",
)
# Plain text that gives the lead too, so that only the value is asked for.
CLOZE = (
    "{document}\n\n{question} {lead}",
    "{document}\n\nQuestion: {question}\nAnswer: {lead}",
    "{question}\n\n{document}\n\n{lead}",
)
BARE = (
    "Answer with nothing else.",
    "Give the answer alone.",
    "Only the answer, please, no sentence.",
    "Be as brief as you can.",
    "Reply with just that.",
)
SENTENCE = (
    "Answer in a sentence.",
    "Reply with a full sentence.",
    "Please put the answer into one sentence.",
)
