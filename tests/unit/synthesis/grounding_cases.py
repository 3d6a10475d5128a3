"""Answers and summaries written for the purpose, with what a careful reader says of each."""

from __future__ import annotations

LEASE = (
    "The lease between Halden Mills and the city of Orlow began on 1 March 2016 and runs for "
    "twelve years. The yearly rent is $48,500, payable in four parts. Halden Mills may end it "
    "early with a notice of six months. The roof was renewed in 2019 by Brandt and Sons."
)
# (question, answer, whether the context has it)
ANSWERS = [
    ("When did the lease begin?", "1 March 2016", True),
    ("When did the lease begin?", "1 March 2018", False),
    ("How long does it run?", "twelve years", True),
    ("How long does it run?", "12 years", True),
    ("How long does it run?", "fifteen years", False),
    ("What is the yearly rent?", "$48,500", True),
    ("What is the yearly rent?", "48500", True),
    ("What is the yearly rent?", "$84,500", False),
    ("Who renewed the roof?", "Brandt and Sons", True),
    ("Who renewed the roof?", "brandt and sons.", True),
    ("Who renewed the roof?", "Brandt and Miller", False),
    ("Who renewed the roof?", "The city of Orlow's own builders", False),
    ("What notice is needed?", "a notice of six months", True),
    ("What notice is needed?", "Six months' notice", True),
    ("What notice is needed?", "none, it ends by itself", False),
    ("How is the rent paid?", "in four parts", True),
    ("How is the rent paid?", "by bank transfer every quarter", False),
    ("Who is the tenant?", "Halden Mills", True),
    ("Who is the tenant?", "Halden Steelworks", False),
    ("When was the roof renewed?", "in 2019", True),
]

VISIT = (
    "Doctor: What brings you in today?\nPatient: My left knee has hurt for three weeks, mostly on "
    "stairs.\nDoctor: Any fall or injury?\nPatient: No, it came slowly. I run twice a week.\n"
    "Doctor: Do you take anything for it?\nPatient: Ibuprofen, 400 milligrams, in the evening.\n"
    "Doctor: Let us do an X-ray on Friday, and please rest from running until then."
)
# (summary, whether the document supports all of it)
SUMMARIES = [
    ("The patient has had pain in the left knee for three weeks, worse on stairs.", True),
    ("The patient has had pain in the left knee for 3 weeks.", True),
    ("Knee pain for 3 weeks, with slow onset and no injury.", True),
    ("The patient takes 400 milligrams of ibuprofen in the evening.", True),
    ("An X-ray is planned for Friday; no running until then.", True),
    ("The patient runs 2 times a week. An X-ray is planned.", True),
    ("The patient denies a fall.", True),
    ("The patient should rest from running.", True),
    ("The patient has had pain in the left knee for five weeks: 5 weeks in all.", False),
    ("The patient takes 800 milligrams of ibuprofen in the evening.", False),
    ("The patient takes Naproxen; before that he took Ibuprofen.", False),
    ("Knee pain for three weeks. The X-ray is on Monday.", False),
    ("Knee pain for three weeks. Blood tests showed raised cholesterol and low iron.", False),
    ("The patient was referred by Dr. Keller for knee pain.", False),
    ("Knee pain. The family lives abroad and owns a vineyard.", False),
    ("Left knee pain for three weeks, since 2021.", False),
    ("The pain is in the right knee.", False),
    ("The patient fell on the stairs.", False),
]

# German: every noun has a capital letter.
MIETE = (
    "Der Mieter zahlt ab März 900 Euro im Monat. Haustiere dürfen nur mit schriftlicher Zustimmung "
    "der Vermieterin gehalten werden. Das Dach wurde zuletzt vor zwei Jahren erneuert, und die "
    "Heizung wird jedes Jahr im Herbst gewartet. Wer auszieht, muss drei Monate vorher kündigen."
)
GERMAN_SUMMARIES = (
    ("Die Kosten der Wohnung betragen 900 Euro im Monat.", True),
    ("Ein Hund darf nur mit Zustimmung der Vermieterin gehalten werden.", True),
    ("Die Heizung wird jedes Jahr im Herbst von Fachleuten gewartet.", True),
    ("Bei einem Auszug gilt eine Frist: Man muss drei Monate vorher kündigen.", True),
    ("Der Mieter zahlt ab März 950 Euro im Monat.", False),
    ("Der Mieter zahlt die Gebühren der GEMA ab März im Monat.", False),
)
