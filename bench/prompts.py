"""Fifty short prompts of several kinds, written for Updraft: what the benches ask when nothing else is given."""

from __future__ import annotations

from updraft.errors import ConfigError

__all__ = ["PROMPTS", "first_prompts"]

PROMPTS: tuple[str, ...] = (
    # questions
    "Why is the sky blue?",
    "What makes bread rise in the oven?",
    "How does a bicycle stay upright while it moves?",
    "Why do leaves change their colour in autumn?",
    "What is the difference between weather and climate?",
    "How do vaccines teach the body to fight a disease?",
    "Why does ice float on water?",
    "What happens to a letter between the mailbox and the door?",
    "How do birds find their way when they fly south?",
    "Why do we have leap years?",
    # stories and letters
    "Write a short story about a fox who is afraid of the dark.",
    "Tell a story about two neighbours who share one apple tree.",
    "Write the first paragraph of a mystery that begins in a lighthouse.",
    "Write a letter to a friend about your first day in a new town.",
    "Describe a market square early in the morning.",
    "Write a short dialogue between a teacher and a curious child about the moon.",
    "Tell a bedtime story about a small cloud that wanted to rain.",
    "Write a thank-you note to a neighbour who watered the plants.",
    # lists and advice
    "Give me three tips for sleeping better.",
    "List five things to pack for a day in the mountains.",
    "Name four ways to save electricity at home.",
    "What should I check before I buy a used bicycle?",
    "Give me a shopping list for a vegetable soup for four people.",
    "List the planets of the solar system with one fact about each.",
    "How can I prepare for a job interview? Answer in five short points.",
    "Suggest three games for a rainy afternoon with children.",
    "Name three habits that help when learning a language.",
    "Explain step by step how to make a cup of green tea.",
    # code
    "Write a Python function that reverses a string.",
    "Write a Python function that returns the largest number in a list.",
    "Show a for loop in C that prints the numbers from 1 to 10.",
    "Write an SQL query that counts the orders of each customer.",
    "Write a JavaScript function that checks whether a word is a palindrome.",
    "Explain what a hash table is and when to use one.",
    "What does this Python line do: total = sum(x * x for x in values)?",
    "Write a shell command that lists the ten largest files in a folder.",
    # mathematics
    "A train travels 180 kilometres in two hours. How far does it travel in five hours?",
    "What is 15 percent of 240? Show each step.",
    "Solve 3x + 7 = 22 and explain how.",
    "A rectangle is 8 metres long and 5 metres wide. What are its area and its perimeter?",
    "Anna has twice as many books as Ben, and together they have 36. How many books has each of them?",
    "Explain the theorem of Pythagoras with an example.",
    "What is the average of 4, 8, 15, 16 and 23?",
    # summaries and rewriting
    "Summarise in one sentence: The town library will close for three weeks in March while its roof is repaired. Books "
    "can be returned at the town hall, and all loans are extended until the library opens again.",
    "Summarise this text: Bees visit flowers to collect nectar and pollen. While they fly from flower to flower, some "
    "pollen rubs off, and the plants can form seeds and fruit. Without bees, many crops would yield far less.",
    "Rewrite this politely: Send me the report today, you are late again.",
    "Write a headline for this news: After two years of work, the old bridge over the river opened again on Sunday. "
    "Hundreds of people walked across it with lanterns.",
    "List the facts in this text: The harbour was built in 1874. It has three piers, of which the longest measures 412 "
    "metres. Every year about nine thousand ships call there.",
    "Turn this into three bullet points: Water the fern twice a week, keep it out of direct sun, and feed it once a "
    "month from spring to autumn.",
    "Explain in simple words: Photosynthesis converts light energy into chemical energy that is stored in sugars.",
)


def first_prompts(count: int) -> tuple[str, ...]:
    """`count` prompts that take from every kind alike.

    Raises:
        ConfigError: fewer than 1 or more than there are.
    """
    if not 1 <= count <= len(PROMPTS):
        raise ConfigError(
            f"{count} prompts were asked for; there are {len(PROMPTS)}.", remedy=f"Give 1 to {len(PROMPTS)}."
        )
    # 21 and 50 have no common divisor, so the steps visit every prompt before they repeat.
    return tuple(PROMPTS[index * 21 % len(PROMPTS)] for index in range(count))
