# cmake -DPROGRAM=optimal_levels -DGNUPLOT=... -DWORK=... -P check.cmake
cmake_minimum_required(VERSION 3.20)

set(svg ${WORK}/levels.svg)
set(csv ${WORK}/levels.csv)
file(REMOVE ${svg})
set(picture)
if(GNUPLOT)
  set(picture --svg ${svg})
else()
  message("no picture: gnuplot was not found (Debian: gnuplot-nox)")
endif()

include(${CMAKE_CURRENT_LIST_DIR}/../run.cmake)

run(0 --rows 20000 --bits 3 ${picture})
if(NOT out MATCHES "optimal: [-0-9. e]+\n" OR NOT out MATCHES "lloyd-max: [-0-9. e]+\n" OR NOT out MATCHES
   "Uniform levels need [0-9]+ bits")
  message(FATAL_ERROR "the tables are missing:\n${out}")
endif()
if(GNUPLOT)
  file(READ ${svg} text)
  if(NOT text MATCHES "lloyd-max" OR NOT text MATCHES "density")
    message(FATAL_ERROR "the picture has no tables, or no density")
  endif()
endif()

# A column of four values on four levels: the values themselves, no cost.
file(WRITE ${csv} "color,size,y\n1,10,0\n2,20,1\n2,40,1\n4,80,0\n7,10,1\n")
run(0 ${csv} --column color --bits 2)
if(NOT out MATCHES "optimal +0.0000 +0.0000" OR NOT out MATCHES "optimal: 1 2 4 7\n")
  message(FATAL_ERROR "four values have four exact levels:\n${out}")
endif()
run(0 ${csv} --column label --bits 1)

# Text from a file is text: neither a quote nor a command for gnuplot.
file(WRITE ${csv} "dog's age,y\n1,0\n2,1\n5,0\n")
run(0 ${csv} --column "dog's age" --bits 1 ${picture})
run(1 ${csv} --column weight)
if(NOT err MATCHES "no such column.*'weight'")
  message(FATAL_ERROR "a column that is missing is named: ${err}")
endif()
run(2 --bits 9)
run(2 --zero --bits 1)
