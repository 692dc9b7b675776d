"""How questions are worded: neutral wordings that any picture answers, and specific ones."""

from __future__ import annotations

from typing import Final

NEUTRAL: Final = (
    "What is the answer?",
    "What does the picture say?",
    "Answer from the picture.",
    "What is shown here?",
    "What do you see?",
    "Look at the image and answer.",
    "Give the answer.",
    "Tell me what this shows.",
    "What is in the image?",
    "What should I answer?",
)
"""Shared by every task whose picture alone tells what is asked."""

NUMBER: Final = (
    "What number is written here?",
    "Read the number.",
    "Which digits do you see?",
    "What is the number in the picture?",
    "Type the number shown.",
)
WORD: Final = (
    "What word is written here?",
    "Read the word.",
    "Which word do you see?",
    "What is the word in the picture?",
    "Spell out the text shown.",
)
SUM: Final = (
    "What is the result?",
    "Work out the sum in the picture.",
    "Solve the arithmetic shown.",
    "Calculate the written expression.",
    "What does this add up to?",
)
TEXT_SUM: Final = (
    "What is {first} plus {second}?",
    "Add {first} and {second}.",
    "How much is {first} + {second}?",
    "Calculate {first} + {second}.",
)
PAIR_NUMBER: Final = (
    "Which picture has the larger number, first or second?",
    "In which image is the number bigger, first or second?",
    "Is the greater number in the first or second picture?",
)
TALLEST: Final = (
    "Which bar is the tallest?",
    "What is the label of the highest bar?",
    "Which letter has the largest bar?",
    "Name the bar with the greatest value.",
)
VALUE: Final = (
    "How high is bar {letter}?",
    "What is the value of bar {letter}?",
    "Which value does {letter} have in the chart?",
    "How many units tall is bar {letter}?",
)
COUNT: Final = (
    "How many dots are there?",
    "Count the dots.",
    "What is the number of dots?",
    "How many points do you count?",
)
TREND: Final = (
    "How does the line run?",
    "What is the trend of the chart?",
    "Does the curve go up, down, peak, dip or stay flat?",
    "Describe the course of the line.",
)
TEXT_COMPARE: Final = (
    "Which is larger, {first} or {second}?",
    "Which number is greater: {first} or {second}?",
    "Name the larger of {first} and {second}.",
)
PAIR_COUNT: Final = (
    "Which picture has more dots, first or second?",
    "Where are more dots, in the first or second image?",
    "Does the first or second picture show more points?",
)
COLOUR: Final = (
    "What colour is the shape?",
    "Which colour does the object have?",
    "Name the colour.",
    "What is the color of this figure?",
)
SHAPE: Final = (
    "What shape is this?",
    "Which shape do you see?",
    "Name the shape.",
    "What form does the object have?",
)
OBJECT: Final = (
    "Name the colour and shape.",
    "Which coloured shape is this?",
    "Describe the object.",
)
RELATION: Final = (
    "Where is the large shape relative to the small one?",
    "On which side of the small shape is the large one?",
    "Is the large shape left, right, above or below the small one?",
    "Seen from the small shape, where is the large one?",
)
ODD: Final = (
    "What colour is the odd one out?",
    "Which colour appears only once?",
    "One shape differs in colour: which colour is it?",
    "Name the colour of the shape unlike the others.",
)
PAIR_COLOUR: Final = (
    "Do both pictures show the same colour?",
    "Is the colour the same in the two images?",
    "Are both objects of one colour?",
)
