"""The 1,024 words of pairing codes: 10 bits each, known by their first three letters.

Ordinary words of 4 to 7 letters, no two alike in the first three, so that one that was
half heard or half typed is still one word. The order is part of nothing.
"""

from __future__ import annotations

_TEXT = """\
about academy acorn acrobat actor adapt address admiral adobe adult advice aerial agenda agile
ahead airport alarm album alcove alert algebra alibi alley almond aloft alpha amaze amber ample
amuse anagram anchor angle animal ankle annual answer antenna anvil apology apple apricot
aquatic arbor arcade arena armor aroma arrow artist ascent ashore aspen athlete atom auction
august aunt author avenue awake awning bacon badge baffle bagel baker balloon bamboo banjo
barrel basket bazaar beaver bedrock beehive behave beige bench beret beside between beyond
bicycle bike billow binary biology birch biscuit bitmap blend blimp blossom blue board bobcat
bogus boil bold bonfire book border boss bottle bowl boxcar bread bridge bronze brush bubble
bucket budget buffalo bugle build bulb bumper bundle buoy burrow butter buzzer bypass cabin
cactus caddie cafe cake calm camera canyon captain carbon castle catalog cause cavern cedar
celery cement central cereal chalk cherry choir chrome chunk cider cinema circle citrus civic
clever climb clock clue coach cobalt coconut code coffee coin cola comet concert cook copper
coral cosmos cotton county cove cowboy coyote cozy cradle credit cricket crow crumb crystal cube
cuckoo cuddle cuff culture curtain custom cute cycle cymbal cypress dairy dancer dapper dash
data dawn dazzle dealer debut decade deer defend degree delta denim depot derby desert detail
dial dice diesel dime dinner diploma direct disc ditto diver dizzy dock dodge dogma dolphin
domain donkey doodle double dove down dozen drama dream drift drop drum duck duet duffel duke
dune duplex durable dust duty dwell dynamo eagle early easel eaten ebony echo eclipse ecology
edge edit educate effort eight elastic elbow elder elite ellipse elope else email embark emerald
empire enamel enclose endless energy engine enhance enjoy enlist enough entry envoy enzyme epic
epoch equal erupt escape essay estate ethic evade event excel exhibit exit exotic expert extra
fabric facet fading fairy falcon family fancy farmer fashion favor feast feel fellow fence ferry
festive fetch fever fiber fiction fiddle field fifty figure fill final firefly fish fitness five
flag flea flint flower fluid foam focus foil folder fond food forest fossil frame fridge frost
fruit fudge fuel fulcrum funnel furnace fuse future fuzzy gadget gain galaxy game gang garden
gasket gate gauge gavel gear geology gerbil gesture giant gift giggle gild ginger giraffe
glacier glen glider globe glue gnome goal goblet goggle golden gondola good gopher gorge gourmet
gown gravel green grid grove guard guess guitar gulf gumdrop gutter habit hair halibut hammer
handle happy harbor haven hawk hazel hedge height helmet hemlock herb hexagon hiccup highway
hiker hill hint history hobby hockey hold honest hood hopeful horizon hostel hotel hour hover
hubcap huddle hull human husky hybrid hydrant hyphen iceberg icon ideal idle igloo iguana image
immense inbox inch index ingot initial inkwell inlet inner input insect into invent iris iron
island isobar italic item ivory jackal jade jaguar janitor jasmine jazz jeans jelly jersey jewel
jigsaw jingle jockey jogger join joke jolly journey jovial jubilee judge juggle juice jumble
jury justice kayak keen kennel ketchup kick kidney kimono kind kiosk kitchen kiwi knack kneel
koala label lace ladder lagoon lake lamp lantern lapel large lasso latch lava lawn layer leader
lecture ledger legend leisure lemon length leopard letter level liberty lichen lift light lilac
limber linen lion liquid list little lively lizard llama load lobster local lodge loft logic
loop lord loud loyal lucky lumber lunar lute luxury machine madam magnet major maker mallet
mammal mango maple marble mason match meadow medal meet melody member menu mercy mesh meteor
mica middle mineral mist mitten mixture moat mobile model mohair moisten moment monkey moon
moral mosaic motor mouse movie mower muddy muffin mule mumble muzzle mystery myth nacho name
napkin narrow nature navy near nebula neck needle nephew nerve nest network neutral newborn
nickel niece nimble nine noble noise nomad noodle normal nose nougat novel nozzle nudge number
nurse nutmeg nylon oasis object oboe ocean octagon offer okra olive omelet omit onion online
opal open optic orange orbit order organ ostrich otter ounce oval oxbow oxygen oyster ozone
pacific paddle page painter palace panther paper parrot pastel patio pause payroll peach pebble
pecan pedal pelican people pepper perfect pesto petal pewter phase photo phrase piano pickle
pigeon pilot pimento pine pioneer pipe pirate pitch pivot pixel pizza planet plenty plier plow
plum plywood pocket podium poem poker polar pond poodle popcorn portal post potato pound powder
prairie present price profit public puffin pull pumpkin punch pupil purple push putty puzzle
pyramid python quarry queen quilt quote rabbit raccoon radar ragtime rainbow rally ranch ravine
razor reader rebel recipe reef refill regal rejoin remedy request rescue retail reunion reward
rhino rhyme ribbon rice riddle rifle right ripple river road robin rocket rodeo roll romance
root rosebud rotate round rover rowboat royal ruby rudder rugby ruler runway rural saddle safari
saga sailor salmon sandal sardine sauce savanna sawdust scale school scissor scribe scuba seal
second seed segment select seminar sequel service session setter seven sewing shadow sheriff
shield shovel shrimp shuttle siding signal silver simple singer siphon siren sister site size
skate sketch slate sled slice slope smart smile smooth snack snow snug soap soccer soda sofa
soil sonnet soprano sorbet soup space sphere spice spoon spring spur squid steam stone street
student style subway sugar summer sunset super surf sushi swan sweet swim sword symbol syrup
system table tackle tadpole tagline tailor talent tangent tape target task tattoo tavern taxi
teacher teddy temple tennis term textile thank thimble thorn three thumb thyme tiara ticket
tidal tiger timber tinsel tissue title toast today toffee tomato tonic tool topaz torch toucan
tower tractor trophy truck tuba tucked tulip tumble tundra turtle tutor tuxedo tweed twig tycoon
unfold uniform unwrap upbeat uphill upland upper urban valley vanilla varnish vault vector
vehicle velvet vessel veteran video viewer vigor villa vine violin virtue visitor vocal voice
volcano vortex voter voyage vulture wafer wagon walnut washer water wave weather wedge weekend
welcome western whale wheat wicker widow wife wiggle willow window wire wisdom witty wizard wolf
wombat wood word yacht yard year yellow yogurt zebra zenith zephyr zero zest zigzag zinc zipper
zodiac zone zoom
"""
WORDS: tuple[str, ...] = tuple(_TEXT.split())

PREFIX = 3
"""Letters that tell one word from all others."""
