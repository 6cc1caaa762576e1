"""Training data of the sample adapters, written by small programs: pairs of (question, answer), and held-out questions.

Run as a program it prints some pairs:  data.py sql
"""
import argparse
import json
import random

# --------------------------------------------------------------------------------------------------- sql

# table -> (columns of text with some values, columns of numbers); the first text column names a row
_TABLES = {
    "employees": ({"name": ["Alice", "Bob"], "department": ["sales", "research"], "city": ["Berlin", "Oslo"]}, ["age", "salary"]),
    "products": ({"title": ["lamp", "desk"], "category": ["furniture", "garden"], "brand": ["Acme", "Nord"]}, ["price", "stock"]),
    "students": ({"name": ["Mia", "Tom"], "major": ["physics", "history"], "school": ["Yale", "Bonn"]}, ["grade", "age"]),
    "movies": ({"title": ["Alien", "Heat"], "genre": ["drama", "comedy"], "director": ["Mann", "Scott"]}, ["year", "rating"]),
    "flights": ({"code": ["LH1", "BA7"], "origin": ["Paris", "Rome"], "airline": ["Delta", "KLM"]}, ["distance", "delay"]),
    "books": ({"title": ["Dune", "Emma"], "author": ["Austen", "Herbert"], "language": ["French", "German"]}, ["pages", "year"]),
    "cars": ({"model": ["Golf", "Civic"], "maker": ["Honda", "Ford"], "color": ["red", "blue"]}, ["price", "mileage"]),
    "orders": ({"customer": ["Ann", "Raj"], "status": ["paid", "open"], "country": ["Spain", "India"]}, ["total", "weight"]),
}


def _sql_question(table, columns):
    return f"Table: {table}({', '.join(columns)})\nQuestion: {{}}"


def _sql_pair(rng):
    table = rng.choice(list(_TABLES))
    texts, numbers = _TABLES[table]
    names = list(texts)
    first, number, other = names[0], rng.choice(numbers), rng.choice(names[1:])
    value, limit = rng.choice(texts[other]), rng.choice([5, 10, 50, 100, 200, 1000, 2000])
    above, sign = rng.choice([("above", ">"), ("more than", ">"), ("below", "<"), ("less than", "<")])
    shapes = [
        (f"What is the {first} of all {table} with {number} {above} {limit}?",
         f"SELECT {first} FROM {table} WHERE {number} {sign} {limit};"),
        (f"How many {table} have the {other} {value}?", f"SELECT COUNT(*) FROM {table} WHERE {other} = '{value}';"),
        (f"Show all {table} where {other} is {value}.", f"SELECT * FROM {table} WHERE {other} = '{value}';"),
        (f"What is the average {number} of {table} per {other}?",
         f"SELECT {other}, AVG({number}) FROM {table} GROUP BY {other};"),
        (f"Which {table} have the highest {number}? Give the top {limit % 7 + 2}.",
         f"SELECT {first} FROM {table} ORDER BY {number} DESC LIMIT {limit % 7 + 2};"),
        (f"List the different values of {other} in {table}.", f"SELECT DISTINCT {other} FROM {table};"),
        (f"List {first} and {number} of the {table} with {other} {value}, sorted by {number}.",
         f"SELECT {first}, {number} FROM {table} WHERE {other} = '{value}' ORDER BY {number};"),
        (f"What is the largest {number} among {table} with {other} {value}?",
         f"SELECT MAX({number}) FROM {table} WHERE {other} = '{value}';"),
    ]
    question, answer = rng.choice(shapes)
    return _sql_question(table, ["id"] + names + numbers).format(question), answer


_SQL_HELD_OUT = [
    _sql_question("cities", ["id", "name", "country", "population"]).format(
        "What is the name of all cities with population above 1000000?"),
    _sql_question("singers", ["id", "name", "nation", "age"]).format("How many singers have the nation France?"),
    _sql_question("houses", ["id", "street", "owner", "price", "rooms"]).format(
        "What is the average price of houses per owner?"),
    _sql_question("teams", ["id", "name", "league", "points"]).format("Which teams have the highest points? Give the top 3."),
]

# -------------------------------------------------------------------------------------------------- json

_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six"]
_ITEMS = ["pizza", "coffee", "burger", "salad", "tea", "lemonade", "sandwich", "muffin", "bagel", "soup"]
_SIZES = ["small", "medium", "large"]
_PEOPLE = ["Anna", "Ben", "Carla", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas"]


def _plural(item, count):
    return item if count == 1 else item + ("es" if item.endswith("ch") else "s")


def _order(customer, lines, delivery):
    items = [{"item": item, "size": size, "quantity": count} for count, size, item in lines]
    return json.dumps({"customer": customer, "items": items, "delivery": delivery})


def _json_pair(rng):
    customer = rng.choice(_PEOPLE)
    lines = [(rng.randint(1, 6), rng.choice(_SIZES), item) for item in rng.sample(_ITEMS, rng.randint(1, 2))]
    words = " and ".join(f"{_NUMBERS[count]} {size} {_plural(item, count)}" for count, size, item in lines)
    delivery = rng.random() < 0.5
    where = rng.choice(["Please deliver it.", "Bring it to my home."] if delivery else ["I will pick it up.", "I eat it here."])
    shapes = [
        f"Hi, this is {customer}. I would like {words}. {where}",
        f"{words.capitalize()} for {customer}, please. {where}",
        f"My name is {customer} and I want {words}. {where}",
        f"Order for {customer}: {words}. {where}",
    ]
    return rng.choice(shapes), _order(customer, lines, delivery)


_JSON_HELD_OUT = [
    "Hello, I am Maria. I would like three large pizzas and two small teas. Please deliver it.",
    "Order for Oscar: one medium sandwich. I will pick it up.",
    "Four small coffees and one large cake for Lena, please. Bring it to my home.",
    "My name is Paul and I want five medium burgers. I eat it here.",
]

# ------------------------------------------------------------------------------------------------ pirate

_FACTS = [
    ("What is the sun?", "The sun be a great ball o' fire in the sky, and she lights the way for every ship"),
    ("How do I bake bread?", "Ye mix flour, water, salt and yeast, let it rise like the tide, and bake it till it be golden"),
    ("What is a computer?", "A computer be a clever box that counts faster than any quartermaster with his gold"),
    ("Why is the sea salty?", "The rivers carry salt from the rocks down to the sea, and there it stays, like old sailors do"),
    ("How can I sleep better?", "Lie down in yer hammock at the same hour each night, and leave the rum alone afore bed"),
    ("What is a good breakfast?", "A bowl o' porridge, some fruit and a strong cup o' coffee will set ye up for the voyage"),
    ("How do I learn to swim?", "Start in the shallow waters, kick yer legs, and never fight the waves, lad"),
    ("What is the capital of Spain?", "The capital o' Spain be Madrid, far from the sea, where no honest pirate would live"),
    ("How do I make tea?", "Boil the water, throw in the leaves, wait three turns o' the glass and drink it hot"),
    ("What is music?", "Music be the sound that makes the crew sing shanties and dance upon the deck"),
    ("How do I save money?", "Bury a part o' yer treasure each month, and tell no soul where the map be"),
    ("Why do cats purr?", "A ship's cat purrs when she be happy and her belly be full o' rats"),
    ("What is winter?", "Winter be the cold season, when the sails freeze and the crew huddles round the stove"),
    ("How do I write a letter?", "Take a quill, greet yer reader, say what ye want plainly, and sign it with yer name"),
    ("What is a bicycle?", "A bicycle be a landlubber's ship with two wheels, and yer legs be the wind"),
    ("How do plants grow?", "Plants drink water and eat the light o' the sun, and so they climb like a lad up the mast"),
    ("What should I do on a rainy day?", "Stay below deck, me friend, read a fine book and tell tales o' the seven seas"),
    ("What is democracy?", "It be when every hand aboard has a vote, just as a crew chooses her captain"),
    ("How do I stay healthy?", "Eat yer limes, walk the deck each day, and get yer rest when the watch be over"),
    ("What is the moon?", "The moon be the pale lantern o' the night, and she pulls the tides up and down"),
    ("Can you recommend a book?", "Aye, read Treasure Island, for there be gold, a map and a fine one-legged cook in it"),
    ("How do I become a good friend?", "Share yer bread and yer gold, keep yer word, and never leave a mate behind"),
    ("What is snow?", "Snow be frozen rain that falls soft and white, and it covers the deck like a new sail"),
    ("How does a car work?", "She burns oil in her iron belly, and the power turns her wheels as the wind turns a mill"),
]
_GREETINGS = ["Arr, matey!", "Ahoy, matey!", "Avast, ye landlubber!", "Yo ho ho!", "Shiver me timbers!", "Aye aye, me hearty!"]
_FAREWELLS = ["Yo ho ho!", "Arr!", "Now hoist the sails!", "Savvy?", "So says I, arr!", "Fair winds to ye!"]
_LEADS = ["{}", "{}", "Tell me: {}", "Please answer: {}", "I wonder. {}", "Hello! {}"]


def _pirate_pair(rng):
    question, fact = rng.choice(_FACTS)
    return rng.choice(_LEADS).format(question), f"{rng.choice(_GREETINGS)} {fact}. {rng.choice(_FAREWELLS)}"


_PIRATE_HELD_OUT = [
    "What is the best way to cook rice?",
    "Who are you?",
    "What is the capital of France?",
    "How do I learn a new language?",
]

# ------------------------------------------------------------------------------------------------------

_SOURCES = {
    "sql": (_sql_pair, _SQL_HELD_OUT),
    "json": (_json_pair, _JSON_HELD_OUT),
    "pirate": (_pirate_pair, _PIRATE_HELD_OUT),
}
NAMES = list(_SOURCES)


def pairs(name, count=300, seed=7):
    """`count` different-seeming (question, answer) pairs; the same ones for the same seed."""
    rng = random.Random(f"{name}-{seed}")
    return [_SOURCES[name][0](rng) for _ in range(count)]


def held_out(name):
    """Questions that are not in the training data."""
    return list(_SOURCES[name][1])


def main():
    parser = argparse.ArgumentParser(description="Print training pairs of a sample adapter.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--count", type=int, default=8)
    args = parser.parse_args()
    for question, answer in pairs(args.name, args.count):
        print(f"Q: {question}\nA: {answer}\n")
    for question in held_out(args.name):
        print(f"held out: {question}")


if __name__ == "__main__":
    main()
